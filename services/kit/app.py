"""What a service offers (App), what a process gives it (Runtime), and how a process runs (Process)."""

import asyncio
import contextlib
import importlib
import logging
import os
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from grpc import aio

from services.kit import config
from services.kit.auth import Identity, Principal, Scope, service_principal
from services.kit.blobs import Blobs
from services.kit.bus import Bus, NearBus
from services.kit.bus_remote import BusApi, RemoteBus
from services.kit.config import Installation, Settings
from services.kit.db import Database
from services.kit.discovery import Directory
from services.kit.operations import OperationsApi
from services.kit.outbox import consume
from services.kit.rpc import OPTIONS, Handlers, guard
from services.kit.schema import Schema
from services.kit.telemetry import Telemetry
from services.kit.timestamps import uuid7

log = logging.getLogger(__name__)
SERVICES = ("gateway", "data", "trainer", "registry", "inference", "logs")


class Door(Protocol):
    """A place where requests come in."""

    async def open(self) -> None:
        """Takes requests from now on."""

    async def close(self, grace: float) -> None:
        """Takes no more; lets those in flight end within `grace` seconds."""


@dataclass(frozen=True)
class App:
    """Everything one service offers. Building one opens no port and starts no task."""

    # Servicers by the full name of their service.
    rpc: Mapping[str, Any] = field(default_factory=dict)
    database: Database | None = None
    schema: Schema | None = None
    listeners: Sequence[Any] = ()
    # Awaited in order once every database of the process is open.
    start: Sequence[Callable[[], Awaitable[None]]] = ()
    # Run until the process stops.
    tasks: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    doors: Sequence[Door] = ()
    # Awaited in order at the end.
    close: Sequence[Callable[[], Awaitable[None]]] = ()
    # Whether it can answer.
    ready: Callable[[], bool] = lambda: True


class Runtime:
    """What a process shares with the services it hosts."""

    def __init__(self, hosted: Sequence[str], env: Mapping[str, str]) -> None:
        """Raises ConfigError when the environment does not fit."""
        self.hosted, self.env = tuple(hosted), env
        self.settings = config.load(Installation, env)
        self.home = self.settings.home.resolve()
        # The folders that every near adapter keeps its files in are the owner's only.
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.instance = f"{'all' if len(self.hosted) > 1 else self.hosted[0]}-{uuid7()[-12:]}"
        self.identity = Identity(self.instance, self.home / "keys")
        self.directory = Directory(self.hosted, self.settings.discovery_url)
        self.telemetry = Telemetry("-".join(self.hosted)[:60], self.home, self.settings.log_level)
        self.blobs = Blobs(self.home / "blobs")
        self.random = random.SystemRandom()
        self.draining = False
        self.apps: dict[str, App] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        url = self.settings.bus_url
        self.bus: Bus = RemoteBus(url, self.identity) if url else NearBus(self.home / "bus.db")

    def now(self) -> datetime:
        """The wall clock, UTC."""
        return datetime.now(UTC)

    def channel(self, service: str) -> Any:
        """A channel to a service, for generated stubs."""
        return self.directory.channel(service)

    def metadata(self, audience: str, principal: Principal, request_id: str = "") -> tuple[tuple[str, str], ...]:
        """What a call of a service carries to speak for a principal."""
        token = ("authorization", f"Bearer {self.identity.token(audience, principal)}")
        return (token, ("x-request-id", request_id)) if request_id else (token,)

    def as_service(self, name: str, audience: str, scope: Scope, *permissions: str) -> tuple[tuple[str, str], ...]:
        """What a call that a service makes on its own carries."""
        return self.metadata(audience, service_principal(name, scope, permissions))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs work beside requests until it ends or the process stops; a failure is logged, not lost."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a task failed", exc_info=error)

    async def stop_tasks(self) -> None:
        """Cancels what runs and waits for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self) -> bool:
        """Every service of the process can answer, and it is not stopping."""
        return not self.draining and all(app.ready() for app in self.apps.values())


class GrpcDoor:
    """A gRPC server for calls of other services."""

    def __init__(self, address: str, guarded: Mapping[str, Any]) -> None:
        self._address, self._guarded = address, guarded
        self._server: aio.Server | None = None

    async def open(self) -> None:
        self._server = aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers((Handlers(self._guarded),))
        if not self._server.add_insecure_port(self._address):
            raise config.ConfigError(f"{self._address} is taken by another program")
        await self._server.start()

    async def close(self, grace: float) -> None:
        if self._server:
            await self._server.stop(grace)


def build(name: str, runtime: Runtime) -> App:
    """Composes one service by name and puts its methods on the local channel."""
    module = importlib.import_module(f"services.{name}.app")
    app: App = module.build(config.load(module.Config, runtime.env), runtime)
    servicers = dict(app.rpc)
    if app.schema and app.database:
        app.schema.operations.bind(app.database, runtime.now)
        servicers["aimass.v1.Operations"] = OperationsApi(app.schema.operations)
        importlib.import_module("aimass.v1.operations_pb2")
    keys = app.schema.keys if app.schema else None
    runtime.directory.local[name].serve(guard(servicers, runtime.identity, name, runtime.now, keys))
    runtime.apps[name] = app
    return app


def settings_of(names: Sequence[str]) -> list[type[Settings]]:
    """The settings classes of services."""
    return [importlib.import_module(f"services.{name}.config").Config for name in names]


class Process:
    """Some services in one process, from start to stop."""

    def __init__(self, names: Sequence[str], env: Mapping[str, str]) -> None:
        """Composes the services; opens nothing. Raises ConfigError."""
        config.refuse_unknown([Installation, *settings_of(SERVICES)], env)
        self.runtime = Runtime(names, env)
        self._apps = {name: build(name, self.runtime) for name in names}
        self._doors: list[Door] = []

    async def start(self) -> None:
        """Opens databases, then the bus, runs what must run before requests, then opens the doors."""
        runtime = self.runtime
        await runtime.bus.start()
        await asyncio.gather(*(app.database.start() for app in self._apps.values() if app.database))
        runtime.telemetry.start(runtime.bus)
        self._doors = list(self._internal_doors())
        for door in self._doors:
            await door.open()
        for name, app in self._apps.items():
            for hook in app.start:
                await hook()
            self._run_tasks(name, app)
        for app in self._apps.values():
            for door in app.doors:
                await door.open()
                self._doors.append(door)
        log.info("%s ready", ", ".join(self._apps))

    def _internal_doors(self) -> list[Door]:
        runtime, doors = self.runtime, list[Door]()
        if runtime.settings.bus_listen and isinstance(runtime.bus, NearBus):
            offered = guard({"aimass.v1.Bus": BusApi(runtime.bus)}, runtime.identity, "bus", runtime.now, None)
            doors.append(GrpcDoor(runtime.settings.bus_listen, offered))
        for name in self._apps:
            listen = getattr(config.load(settings_of([name])[0], runtime.env), "listen", "")
            if listen:
                doors.append(GrpcDoor(listen, runtime.directory.local[name].methods))
        return doors

    def _run_tasks(self, name: str, app: App) -> None:
        runtime = self.runtime
        if app.schema and app.database:
            runtime.spawn(app.schema.outbox.relay(app.database, runtime.bus))
        for index, listener in enumerate(app.listeners):
            group = f"{name}-{runtime.instance}" if listener.broadcast else name
            runtime.spawn(consume(runtime.bus, listener, f"{group}-{index}" if index else group, runtime.now))
        for task in app.tasks:
            runtime.spawn(task())

    async def stop(self) -> None:
        """Drains the doors, stops the work, closes what was opened; in the reverse order of `start`."""
        runtime = self.runtime
        runtime.draining = True
        for door in reversed(self._doors):
            await door.close(runtime.settings.drain_seconds)
        await runtime.stop_tasks()
        for app in self._apps.values():
            for hook in app.close:
                await hook()
        await runtime.telemetry.close()
        for app in self._apps.values():
            if app.database:
                app.database.close()
        await runtime.directory.close()
        await runtime.bus.close()
        runtime.blobs.close()
        runtime.identity.close()


async def run(names: Sequence[str], env: Mapping[str, str] = os.environ) -> None:
    """Hosts services until SIGTERM or SIGINT; a second signal stops at once."""
    process = Process(names, env)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def stopping() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stopping)
    try:
        await process.start()
        await stop.wait()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await process.stop()
