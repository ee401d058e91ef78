"""The door for calls of other services."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from grpc import aio

from services.kit.config import ConfigError
from services.kit.grpc_server import Server
from services.kit.handlers import Handlers
from services.kit.health import Health, HealthHandlers
from services.kit.rpc import OPTIONS, PINGED, Guarded
from services.kit.underway import Underway

if TYPE_CHECKING:
    from services.kit.tls import Credentials


_QUIET = 0.5  # seconds without a call, after which no more are expected


class GrpcDoor:
    """A gRPC server for internal calls; with credentials its callers need certificates."""

    def __init__(
        self,
        address: str,
        guarded: Mapping[str, Guarded],
        ending: Callable[[], None] = lambda: None,
        credentials: "Credentials | None" = None,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """`ending` is called before the door closes; `ready` says what grpc.health.v1 answers."""
        self._address, self._guarded, self._ending, self._credentials = address, guarded, ending, credentials
        names = {path.split("/")[1] for path in guarded}
        self._underway, self._health = Underway(), Health(names, ready)
        # host:port where it is open: port 0 was for any.
        self.address = ""
        self._server: aio.Server | None = None

    async def open(self) -> None:
        """Raises ConfigError when the address cannot be had."""
        # gRPC would let two processes listen on one port, and each get some of the other's calls.
        health = HealthHandlers(self._health, self._underway)
        options = [*OPTIONS, *PINGED, ("grpc.so_reuseport", 0)]
        server = Server([self._handlers(), health], [*self._guarded, *health.paths], options)
        try:
            if self._credentials:
                port = server.add_secure_port(self._address, self._credentials.server())
            else:
                port = server.add_insecure_port(self._address)
        except RuntimeError:
            raise ConfigError(
                f"cannot listen on {self._address}: another program does, or it is not an address of this machine"
            ) from None
        self._server = server
        self.address = f"{self._address.rpartition(':')[0]}:{port}"
        await server.start()

    def _handlers(self) -> Handlers:
        if not (credentials := self._credentials):
            return Handlers(self._guarded, self._underway)
        return Handlers(self._guarded, self._underway, lambda context: credentials.peer(context.auth_context()))

    async def left(self, seconds: float) -> None:
        """Waits until calls have stopped, at most so long: callers learn elsewhere that it closes."""
        until = time.monotonic() + seconds
        last = min(until, self._underway.latest + _QUIET)
        while (left := last - time.monotonic()) > 0:
            await asyncio.sleep(left)
            last = min(until, self._underway.latest + _QUIET)

    async def close(self, grace: float) -> None:
        """Takes no more calls and cuts none: what does not end within `grace` seconds is told to come again."""
        if self._server:
            # Dropped here: a server that is collected after its loop was closed logs an error.
            server, self._server = self._server, None
            self._ending()
            stopping = asyncio.ensure_future(server.stop(grace))
            await self._underway.end(grace, stopping)
            await stopping
