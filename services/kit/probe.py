"""Health probe for containers without curl. It imports little, as it runs every few seconds."""

import socket
from pathlib import Path

_PATIENCE = 3.0  # seconds


def probe(address: str, path: str = "/health/ready") -> bool:
    """Whether the process that is observed at host:port is ready.

    The address may also be the path of the file that has it, `observed` in a home folder.
    """
    try:
        if "/" in address:
            address = Path(address).read_text().strip()
        host, _, port = address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), _PATIENCE) as connection:
            connection.settimeout(_PATIENCE)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return connection.recv(32).split(b" ")[1:2] == [b"200"]
    except (OSError, ValueError):
        return False
