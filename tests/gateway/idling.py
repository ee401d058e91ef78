"""Opens connections to a port and says next to nothing on them.

python -m tests.gateway.idling PORT COUNT

Sends a byte on each that is left, again and again until its input ends, and says each time how many were closed.
"""

import contextlib
import resource
import select
import socket
import sys

_PAUSE = 0.5  # seconds between bytes


def lives(connection: socket.socket) -> bool:
    """Whether nobody has closed it; says a byte on it."""
    try:
        with contextlib.suppress(BlockingIOError):
            if not connection.recv(4096):
                return False
        connection.send(b"G")
    except OSError:
        return False
    return True


def main(port: int, count: int) -> None:
    """Until its input ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count + 100, hard) if hard > 0 else count + 100), hard))
    left = []
    for _ in range(count):
        left.append(socket.create_connection(("127.0.0.1", port)))
        left[-1].setblocking(False)
    while not select.select([sys.stdin], [], [], _PAUSE)[0]:
        for connection in left[:]:
            if not lives(connection):
                connection.close()
                left.remove(connection)
        print(count - len(left), flush=True)
    for connection in left:
        connection.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
