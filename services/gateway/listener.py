"""Accepts connections on a socket, and loses none of them when it closes."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from services.kit.tasks import keep_running

_BACKLOG = 2048
_SHAKE = 10.0  # seconds that a TLS handshake may take
_BREATH = 0.1  # seconds after an accept that failed, as when there are no descriptors left


class Listener:
    """Gives each connection its protocol; with a context, after its handshake."""

    def __init__(
        self, listening: socket.socket, protocol: Callable[[], Any], context: ssl.SSLContext | None = None
    ) -> None:
        self._listening, self._protocol, self._context = listening, protocol, context
        self._server: asyncio.Server | None = None
        self._accepting: asyncio.Task[None] | None = None
        # Connections whose handshake is under way, or that were accepted last.
        self.shaking: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Accepts from now on."""
        loop = asyncio.get_running_loop()
        if self._context is None:
            self._server = await loop.create_server(self._protocol, sock=self._listening, backlog=_BACKLOG)
        else:
            # The loop's own server does not tell of connections in their handshake, and they may not be forgotten.
            self._listening.listen(_BACKLOG)
            self._accepting = loop.create_task(keep_running(partial(self._accept, loop)))

    async def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except OSError:
                await asyncio.sleep(_BREATH)
            else:
                self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        task = asyncio.get_running_loop().create_task(self._shake(connection))
        self.shaking.add(task)
        task.add_done_callback(self.shaking.discard)
        # A task that is cancelled before it began closes nothing itself.
        task.add_done_callback(lambda ended: connection.close() if ended.cancelled() else None)

    async def _shake(self, connection: socket.socket) -> None:
        loop, patience = asyncio.get_running_loop(), _SHAKE if self._context else None
        with contextlib.suppress(OSError):  # a client that speaks no TLS; ssl.SSLError is one too
            await loop.connect_accepted_socket(
                self._protocol, connection, ssl=self._context, ssl_handshake_timeout=patience
            )

    def close(self) -> None:
        """Accepts no more. Those that the kernel has accepted for us are taken, or they would see a reset."""
        if self._accepting:
            self._accepting.cancel()
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                break
            connection.setblocking(False)
            self._take(connection)
        if self._server:
            self._server.close()
        self._listening.close()

    def give_up(self) -> None:
        """Waits for no handshake any more."""
        for task in list(self.shaking):
            task.cancel()
