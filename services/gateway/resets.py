"""Closes connections whose calls are begun and reset in rapid succession (RELIABILITY A37).

The transport bounds concurrent calls, but it goes on reading resets, which alone costs more than a core. It has no
bound for them and no way to close one connection (grpcio 1.85), so its socket is shut down below it.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Collection
from urllib.parse import unquote

from services.gateway import sockets
from services.kit.app import OPERATOR

log = logging.getLogger(__name__)
# Resets of a connection within a second: as many as it may have calls open, so that all may be left at once.
MOST = 1000
_PAUSE = 0.02  # seconds between two looks for sockets: each costs a call for each that is open


class Resets:
    """Counts the resets of each connection, and closes those with more than MOST in a second."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._since = 0.0
        self._unruly: set[str] = set()
        self._closing: asyncio.Task[None] | None = None

    def note(self, peer: str) -> None:
        """A call of a connection (gRPC's name of its other end) was reset before it was answered."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._since >= 1:
            self._counts.clear()
            self._since = loop.time()
        self._counts[peer] += 1
        if self._counts[peer] == MOST:
            self._unruly.add(peer)
            if not self._closing or self._closing.done():
                self._closing = loop.create_task(self._close())

    async def _close(self) -> None:
        while self._unruly:
            peers, self._unruly = self._unruly, set()
            await asyncio.to_thread(shut, peers)
            log.warning("closed %d connections that reset %d calls in a second", len(peers), MOST, extra=OPERATOR)
            await asyncio.sleep(_PAUSE)


def shut(peers: Collection[str]) -> None:
    """Ends connections of this process, by gRPC's names of their other ends (`ipv4:192.0.2.1:4711`)."""
    ends = {unquote(peer.partition(":")[2]) for peer in peers}

    def end(found: socket.socket) -> None:
        host, port = found.getpeername()[:2]
        # gRPC names an IPv4 address by itself, whatever the socket is.
        if not ends.isdisjoint((f"{host.removeprefix('::ffff:')}:{port}", f"[{host}]:{port}")):
            found.shutdown(socket.SHUT_RDWR)

    sockets.each(end)
