"""What a stranger on the servers' network is told, who has passwords and keys but no certificate; run inside the stack.

One line per server: its name, and how it refused; `in` if it did not.
"""

import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import psycopg

SERVERS = {"kafka": 9092, "redis": 6379, "triton": 8001}


def postgres() -> str:
    url = Path("/run/data/database_url").read_text().strip().replace("+psycopg", "")
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[-1]
    return "in"


def handshake(server: str, port: int) -> str:
    """With TLS 1.3 a refusal comes after the handshake, at the first read."""
    context = ssl.create_default_context(cafile="/run/aimass/tls/ca.pem")
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((server, port), 5) as plain,
            context.wrap_socket(plain, server_hostname=server) as s,
        ):
            return "in" if s.recv(1) else "closed"
    except ssl.SSLError as error:
        return error.reason or "refused"
    except TimeoutError:
        return "in"  # it waits for what is said
    except OSError as error:
        return str(error)


def s3() -> str:
    context = ssl.create_default_context(cafile="/run/aimass/tls/ca.pem")
    try:
        urllib.request.urlopen("https://s3:7070/aimass?list-type=2", timeout=5, context=context).close()
    except urllib.error.HTTPError as error:
        return str(error.code)
    return "in"


if __name__ == "__main__":
    said = {"postgres": postgres(), "s3": s3()} | {name: handshake(name, port) for name, port in SERVERS.items()}
    for name, answer in said.items():
        print(f"{name}: {answer}")
