"""The sockets of this process that gRPC keeps to itself (grpcio 1.85)."""

import contextlib
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Callable, Collection

_ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux, which `socket` does not name
_DROP_ALL = struct.pack("HBBI", 6, 0, 0, 0)  # one instruction of classic BPF: return 0 bytes of the packet


def each(do: Callable[[socket.socket], None]) -> None:
    """Calls `do` for each TCP socket of this process; one for which it raises OSError is skipped."""
    for name in os.listdir("/dev/fd"):
        # Skips also what is no socket, or has gone since it was listed.
        with contextlib.suppress(OSError):
            # The descriptor is not ours: neither a copy of it nor this object may close it, or SQLite would lose its
            # locks.
            found = socket.socket(fileno=int(name))
            try:
                if found.family in (socket.AF_INET, socket.AF_INET6):
                    do(found)
            finally:
                found.detach()


def deafen(ports: Collection[int]) -> None:
    """Lets the kernel drop new connections to these ports here, as if their first packet had been lost.

    They come again after a second, and then to another process that listens on the same port. Linux only.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HP", 1, ctypes.addressof(code))

    def drop(found: socket.socket) -> None:
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1] in ports:
            found.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)

    each(drop)
