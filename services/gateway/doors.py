"""The public doors: HTTP and gRPC, opened and drained together (RELIABILITY S17)."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import grpc
import orjson
from grpc import aio
from uvicorn.config import Config as UvicornConfig
from uvicorn.server import ServerState

from services.gateway.access.installation import write_secret
from services.gateway.api.forward import Forward
from services.gateway.certificate import Certificate
from services.gateway.config import Config
from services.gateway.http_protocol import HttpProtocol
from services.gateway.listener import Listener
from services.gateway.repeats import Repeats
from services.gateway.resets import MOST, Resets
from services.gateway.sockets import deafen
from services.kit.app import OPERATOR
from services.kit.config import ConfigError
from services.kit.grpc_server import Server
from services.kit.rpc import OPTIONS
from services.kit.tasks import cancel, keep_running

log = logging.getLogger(__name__)
_NEXT = 3.0  # seconds after an answer in which a client is likely to send the next request
_TICK = 0.05  # seconds between looks at what is still open
_KNOCK = 0.5  # seconds that another gateway on our address may take to accept
Idle = Callable[[], bool]


class HttpDoor:
    """uvicorn's protocol on a socket of ours; the application is the edge."""

    def __init__(self, app: Any, config: Config, repeats: Repeats, certificate: Certificate | None = None) -> None:
        """`repeats` answers what it knows, past the application."""
        self._app, self._config, self._certificate, self._repeats = app, config, certificate, repeats
        self.scheme = "https" if certificate else "http"
        self._state = ServerState()
        self._listener: Listener | None = None
        self._clock: asyncio.Task[None] | None = None
        self.address = ""

    async def open(self) -> None:
        """Raises ConfigError when the port cannot be had."""
        settings = UvicornConfig(
            self._app, http=HttpProtocol, ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False, proxy_headers=False, timeout_keep_alive=75,
        )  # fmt: skip
        settings.load()
        for name in ("uvicorn.error", "uvicorn.access"):
            # The edge logs what uvicorn would print on the terminal.
            logging.getLogger(name).handlers = [logging.NullHandler()]
            logging.getLogger(name).propagate = False
        HttpProtocol.most = self._config.max_connections
        listening = _bound(self._config, self._config.http_port, "AIMASS_GATEWAY_HTTP_PORT")
        context = self._certificate.context() if self._certificate else None
        made: dict[str, Any] = {"config": settings, "server_state": self._state, "repeats": self._repeats}
        self._listener = Listener(listening, lambda: HttpProtocol(**made, app_state={}), context)
        await self._listener.open()
        self.address = _address(listening)
        self._clock = asyncio.create_task(keep_running(self._tell_the_time))

    async def taken(self) -> bool:
        """Whether another gateway accepts connections on the address that we share with it."""
        config = self._config
        if not (config.reuse_port and config.http_port):
            return False
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
        try:
            async with asyncio.timeout(_KNOCK):
                _, writer = await asyncio.open_connection(here, config.http_port)
        except OSError:  # a TimeoutError is one: a gateway that does not accept takes no connections
            return False
        writer.transport.abort()
        return True

    async def _tell_the_time(self) -> None:
        while True:
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            await asyncio.sleep(1)

    async def close(self, grace: float, leaving: asyncio.Event) -> None:
        """Accepts for a while, then waits for connections that may still ask, then for what is in flight.

        `leaving` is set when nothing is accepted any more: streams that only wait end then.
        """
        if self._listener is None or self._clock is None:
            return
        await asyncio.sleep(min(self._config.drain_accept_seconds, grace))
        self._listener.close()
        leaving.set()
        patience = min(self._config.drain_silent_seconds, grace)
        await _until(lambda: self._quiet() and self._idle(), patience, lambda: self._shut(min(patience, _NEXT)))
        for connection in self._silent():
            connection.transport.close()
        self._listener.give_up()
        await _until(self._idle, grace, lambda: self._shut(0))
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        await cancel(self._clock)

    def _shut(self, patience: float) -> None:
        for connection in list(self._state.connections):
            connection.leave(patience)  # type: ignore[union-attr]

    def _idle(self) -> bool:
        return not self._state.tasks and len(self._state.connections) == len(self._silent())

    def _quiet(self) -> bool:
        return not self._silent() and not (self._listener and self._listener.shaking)

    def _silent(self) -> list[Any]:
        return [connection for connection in self._state.connections if not connection.spoke]  # type: ignore[union-attr]


class GrpcDoor:
    """A gRPC server with the handlers that are given to it."""

    def __init__(self, handler: Forward, config: Config, certificate: Certificate | None = None) -> None:
        self._handler, self._config, self._certificate = handler, config, certificate
        self._server: aio.Server | None = None
        # The second one is for clients with certificates; empty: there is none.
        self.address = self.certified = ""

    async def open(self) -> None:
        """Raises ConfigError when a port cannot be had."""
        # Unless it is wanted, a port that another gateway has is refused, not shared.
        shared = ("grpc.so_reuseport", int(self._config.reuse_port))
        options = [*OPTIONS, shared, ("grpc.max_concurrent_streams", MOST)]
        self._server = Server([self._handler], self._handler.paths, options, Resets().note)
        config, certificate = self._config, self._certificate
        shown = certificate.credentials() if certificate else None
        self.address = self._add(self._server, config.grpc_port, "AIMASS_GATEWAY_GRPC_PORT", shown)
        if certificate and config.certified_grpc_port is not None:
            shown, name = certificate.credentials(certified=True), "AIMASS_GATEWAY_CERTIFIED_GRPC_PORT"
            self.certified = self._add(self._server, config.certified_grpc_port, name, shown)
        await self._server.start()

    def _add(self, server: aio.Server, port: int, setting: str, shown: grpc.ServerCredentials | None) -> str:
        """The address of another port."""
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        try:
            address = f"{host}:{port}"
            got = server.add_secure_port(address, shown) if shown else server.add_insecure_port(address)
        except RuntimeError:
            got = 0
        if not got:
            raise _taken(setting, self._config.host, port)
        return f"{host}:{got}"

    async def close(self, grace: float) -> None:
        """Accepts for a while, then lets calls in flight end."""
        if self._server:
            accept = min(self._config.drain_accept_seconds, grace)
            await asyncio.sleep(accept)
            if self._config.reuse_port:
                # Clients come again as soon as they hear that this server stops: to the successor, not to a listener
                # that is being closed, which would reset them.
                await asyncio.to_thread(deafen, {_port(self.address), _port(self.certified)})
            # Let go of here: a server that is collected after its loop was closed complains.
            server, self._server = self._server, None
            stopping = asyncio.ensure_future(server.stop(max(grace - accept, 0)))
            await self._handler.underway.end(max(grace - accept, 0), stopping)
            await stopping


class Doors:
    """Both doors as one, opened and closed together. `doors.json` in the home folder says where they are."""

    def __init__(
        self,
        http: HttpDoor,
        rpc: GrpcDoor,
        home: Path,
        opened: asyncio.Event,
        leaving: asyncio.Event,
        ready: Callable[[], bool],
        stopping: Callable[[], bool],
    ) -> None:
        """`opened` is set when both are open, `leaving` when they close.

        `ready` says whether a gateway that shares its address may begin, `stopping` whether it is to stop.
        """
        self._http, self._rpc, self._path = http, rpc, home / "doors.json"
        self._opened, self._leaving, self._ready, self._stopping = opened, leaving, ready, stopping

    async def open(self) -> None:
        """Raises ConfigError; then neither is open. While another gateway answers on the same address it waits until it
        is ready to answer as well: from then on the kernel gives it every second connection."""
        while not (self._ready() or self._stopping()):
            if not await self._http.taken():
                break
            await asyncio.sleep(_TICK)
        if self._stopping():
            return
        await self._rpc.open()
        try:
            await self._http.open()
        except ConfigError:
            await self._rpc.close(0)
            raise
        content = {"http": f"{self._http.scheme}://{self._http.address}", "grpc": self._rpc.address}
        if self._rpc.certified:
            content["grpc_certified"] = self._rpc.certified
        await asyncio.to_thread(write_secret, self._path, orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))
        self._opened.set()
        log.info("open at %s and grpc://%s", content["http"], content["grpc"], extra=OPERATOR)

    async def close(self, grace: float) -> None:
        await asyncio.gather(self._http.close(grace, self._leaving), self._rpc.close(grace))
        self._path.unlink(missing_ok=True)


def _bound(config: Config, port: int, setting: str) -> socket.socket:
    host = config.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if config.reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Connections inherit it: an answer is not held back to be joined with a next one.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise _taken(setting, host, port, error) from None
    listening.setblocking(False)
    return listening


def _taken(setting: str, host: str, port: int, error: OSError | None = None) -> ConfigError:
    if error is None or error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"{setting}: port {port} of {host} is taken by another program; name another one, or 0 for any"
        )
    return ConfigError(f"{setting}: {host}:{port} cannot be opened: {os.strerror(error.errno or 0).lower()}")


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _port(address: str) -> int:
    return int(address.rpartition(":")[2] or 0)


async def _until(done: Idle, seconds: float, meanwhile: Callable[[], None]) -> None:
    """Waits for a condition, at most some seconds."""
    end = asyncio.get_running_loop().time() + seconds
    while not done() and asyncio.get_running_loop().time() < end:
        meanwhile()
        await asyncio.sleep(_TICK)
