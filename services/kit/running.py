"""How a process runs its services, from start to stop."""

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from grpc import aio

from services.kit import config
from services.kit.app import OPERATOR, App, Door, Runtime
from services.kit.bus import NearBus
from services.kit.bus_remote import BusApi
from services.kit.config import Installation, Settings
from services.kit.discovery import place
from services.kit.handlers import Handlers
from services.kit.inbox import consume
from services.kit.observation import ObservationDoor
from services.kit.operations_api import OperationsApi
from services.kit.rpc import OPTIONS, PINGED, guard

log = logging.getLogger(__name__)
SERVICES = ("gateway", "data", "trainer", "registry", "inference", "logs")


class GrpcDoor:
    """A gRPC server for calls of other services."""

    def __init__(self, address: str, guarded: Mapping[str, Any], ending: Callable[[], None] = lambda: None) -> None:
        """`ending` is called before the door closes: it ends streams that would never end by themselves."""
        self._address, self._guarded, self._ending = address, guarded, ending
        self._server: aio.Server | None = None

    async def open(self) -> None:
        # gRPC would let two processes listen on one port, and each get some of the other's calls.
        server = aio.server(options=[*OPTIONS, *PINGED, ("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((Handlers(self._guarded),))
        try:
            server.add_insecure_port(self._address)
        except RuntimeError:
            raise config.ConfigError(
                f"{self._address} cannot be listened on: another program has it, or it is no address of this machine"
            ) from None
        self._server = server
        await server.start()

    async def close(self, grace: float) -> None:
        if self._server:
            # Let go of here: a server that is collected after its loop was closed complains.
            server, self._server = self._server, None
            self._ending()
            await server.stop(grace)


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
        self._started = False

    async def start(self) -> None:
        """Opens databases, then the bus, runs what must run before requests, then opens the doors."""
        runtime = self.runtime
        if listen := runtime.settings.observe_listen:
            # First to open and last to close: it tells of the start and of the stop.
            observed = ObservationDoor(listen, lambda: self._started, lambda: self._started and runtime.ready())
            await observed.open()
            (runtime.home / "observed").write_text(f"{observed.address}\n")
            self._doors.append(observed)
        await runtime.cache.start()
        await runtime.directory.start()
        await runtime.bus.start()
        await asyncio.gather(*(app.database.start() for app in self._apps.values() if app.database))
        runtime.telemetry.start(runtime.bus)
        for door in self._internal_doors():
            await door.open()
            self._doors.append(door)
        for name, app in self._apps.items():
            for hook in app.start:
                await hook()
            self._run_tasks(name, app)
        for app in self._apps.values():
            for door in app.doors:
                await door.open()
                self._doors.append(door)
        host = runtime.settings.advertise_host
        await runtime.directory.source.announce({name: place(self._listen(name), host) for name in self._apps})
        self._started = True
        log.info("%s ready", ", ".join(self._apps), extra=OPERATOR)

    def _internal_doors(self) -> list[Door]:
        runtime, doors = self.runtime, list[Door]()
        if runtime.settings.bus_listen and isinstance(runtime.bus, NearBus):
            api = BusApi(runtime.bus)
            offered = guard({"aimass.v1.Bus": api}, runtime.identity, "bus", runtime.now, None)
            doors.append(GrpcDoor(runtime.settings.bus_listen, offered, api.end))
        for name in self._apps:
            if listen := self._listen(name):
                doors.append(GrpcDoor(listen, runtime.directory.local[name].methods))
        return doors

    def _listen(self, name: str) -> str:
        return str(getattr(config.load(settings_of([name])[0], self.runtime.env), "listen", ""))

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
        await runtime.directory.source.withdraw()
        for door in reversed(self._doors):
            await door.close(runtime.settings.drain_seconds)
        await runtime.stop_tasks()
        for app in self._apps.values():
            for hook in app.close:
                await hook()
        await runtime.telemetry.close()
        for app in self._apps.values():
            if app.schema:
                app.schema.operations.on_cancel.clear()  # the schema outlives the services of this process
            if app.database:
                app.database.close()
        await runtime.directory.close()
        await runtime.bus.close()
        await runtime.cache.close()
        runtime.blobs.close()
        runtime.identity.close()


class _Terminal(logging.StreamHandler[TextIO]):
    """Shows an operator what was said for him (`extra=OPERATOR`) and every warning; the rest is in the log files."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or hasattr(record, "operator")


async def run(names: Sequence[str], env: Mapping[str, str] = os.environ) -> None:
    """Hosts services until SIGTERM or SIGINT; a second signal stops at once. Says on stdout where they are."""
    logging.getLogger("services").addHandler(_Terminal(sys.stdout))
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
