"""How a process runs its services, from start to stop."""

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from services import SERVICES
from services.kit import config
from services.kit.app import OPERATOR, App, Door, Runtime
from services.kit.bus import NearBus
from services.kit.bus_remote import BusApi, RemoteBus
from services.kit.config import Settings
from services.kit.discovery import place
from services.kit.grpc_door import GrpcDoor
from services.kit.inbox import consume
from services.kit.observation import ObservationDoor
from services.kit.operations_api import OperationsApi
from services.kit.relay import Relay
from services.kit.rpc import guard
from services.kit.telemetry.files import Terminal
from services.kit.vitals import Vitals

log = logging.getLogger(__name__)


def build(name: str, settings: Settings, runtime: Runtime) -> App:
    """Builds one service by name and registers its methods with the local channel."""
    app: App = importlib.import_module(f"services.{name}.app").build(settings, runtime)
    servicers = dict(app.rpc)
    if app.schema and app.database:
        app.schema.operations.bind(app.database, runtime.now)
        app.schema.tenure.bind(app.database, runtime.instance)
        servicers["aimass.v1.Operations"] = OperationsApi(app.schema.operations)
        importlib.import_module("aimass.v1.operations_pb2")
    keys = app.schema.keys.sealing(runtime.vault) if app.schema else None
    runtime.directory.local[name].serve(guard(servicers, runtime.identity, name, runtime.now, keys, runtime.calls))
    runtime.apps[name] = app
    return app


class Process:
    """Some services in one process, from start to stop."""

    def __init__(self, names: Sequence[str], env: Mapping[str, str]) -> None:
        """Builds the services; opens nothing. Raises ConfigError."""
        others = map(config.of, config.named(SERVICES, env))
        shared, own = config.load_all(map(config.of, names), others, env)
        self._settings = dict(zip(names, own, strict=True))
        self.runtime = Runtime(names, env, shared)
        self._apps = {name: build(name, found, self.runtime) for name, found in self._settings.items()}
        # Doors in the order of their opening: internal ones are for other services, public ones for clients.
        self._observed: list[Door] = []
        self._internal: dict[str, GrpcDoor] = {}
        self._public: list[Door] = []
        self._vitals = Vitals(self.runtime, self._apps)

    async def start(self) -> None:
        """Opens the bus, then databases, then internal doors; runs start hooks and tasks; then opens public doors."""
        runtime = self.runtime
        if listen := runtime.settings.observe_listen:
            # First to open and last to close: it reports the start and the stop.
            (runtime.home / "observed").unlink(missing_ok=True)  # another process may have the old address by now
            observed = ObservationDoor(listen, lambda: self._vitals.started, self._vitals.all_ready)
            await observed.open()
            (runtime.home / "observed").write_text(f"{observed.address}\n")
            self._observed.append(observed)
        runtime.start_upkeep(self._renew)
        await runtime.cache.start()
        await runtime.directory.start()
        await runtime.bus.start()
        await asyncio.gather(*(app.database.start() for app in self._apps.values() if app.database))
        runtime.telemetry.start(runtime.bus, runtime.collector)
        runtime.keep_running(self._vitals.run)
        for name, inner in self._internal_doors().items():
            await inner.open()
            self._internal[name] = inner
        for name, app in self._apps.items():
            for hook in app.start:
                await hook()
            self._run_tasks(name, app)
        for name, app in self._apps.items():
            for door in app.doors:
                await door.open()
                self._public.append(door)
            runtime.spawn(self._use_bus(name, app))
        if runtime.draining:  # told to stop meanwhile: it is not announced
            return
        addresses = {name: self._internal[name].address if name in self._internal else "" for name in self._apps}
        host = runtime.settings.advertise_host
        await runtime.directory.source.announce({name: place(found, host) for name, found in addresses.items()})
        self._vitals.started = True
        runtime.start_forgetting()
        log.info("%s ready", ", ".join(self._apps), extra=OPERATOR)

    def _internal_doors(self) -> dict[str, GrpcDoor]:
        runtime, doors = self.runtime, dict[str, GrpcDoor]()
        if runtime.settings.bus_listen and isinstance(runtime.bus, NearBus):
            api = BusApi(runtime.bus)
            offered = guard({"aimass.v1.Bus": api}, runtime.identity, "bus", runtime.now, None, runtime.calls)
            doors["bus"] = GrpcDoor(runtime.settings.bus_listen, offered, api.end, runtime.credentials)
        for name in self._apps:
            if listen := str(getattr(self._settings[name], "listen", "")):
                methods, ready = runtime.directory.local[name].methods, partial(self._vitals.ready, name)
                doors[name] = GrpcDoor(listen, methods, credentials=runtime.credentials, ready=ready)
        if runtime.credentials and (missing := sorted(doors.keys() - runtime.credentials.names)):
            raise config.ConfigError(f"AIMASS_TLS_DIR: the certificate is not for {', '.join(missing)}")
        return doors

    def _renew(self) -> None:
        self.runtime.directory.renew()
        if isinstance(self.runtime.bus, RemoteBus):
            self.runtime.bus.renew()

    def _run_tasks(self, name: str, app: App) -> None:
        runtime = self.runtime
        if app.schema and app.database:
            runtime.keep_running(app.schema.tenure.run)
            runtime.keep_running(partial(app.schema.operations.listen, app.schema.tenure.names))
        # Before the tasks, which ask for the present state: events in between would be missed.
        self._consume(name, app, broadcast=True)
        for task in app.tasks:
            runtime.keep_running(task)

    def _consume(self, name: str, app: App, broadcast: bool) -> None:
        base, runtime = f"{name}-{self.runtime.instance}" if broadcast else name, self.runtime
        for index, listener in enumerate(app.listeners):
            if listener.broadcast is broadcast:
                group = f"{base}-{index}" if index else base
                runtime.keep_running(partial(consume, runtime.bus, listener, group, runtime.now))

    async def _use_bus(self, name: str, app: App) -> None:
        """Starts to publish and to consume once the service is ready: doing so takes half of a start."""
        await self._vitals.until_ready(name)
        if app.schema and app.database:
            self.runtime.keep_running(Relay(app.schema.outbox, app.schema.tenure, app.database, self.runtime.bus).run)
        self._consume(name, app, broadcast=False)

    async def stop(self) -> None:
        """Drains the doors, stops the tasks, closes what was opened."""
        runtime = self.runtime
        runtime.draining = True
        await runtime.directory.source.withdraw()
        await self._drain(runtime.settings.drain_seconds, runtime.settings.drain_accept_seconds)
        await runtime.stop_tasks()
        await asyncio.gather(*(app.schema.tenure.close() for app in self._apps.values() if app.schema))
        for hook in [hook for app in self._apps.values() for hook in app.close]:
            await hook()
        await runtime.telemetry.close()
        for app in self._apps.values():
            if app.schema:
                app.schema.operations.on_cancel.clear()  # the schema is a module's: it outlives this process's services
            if app.database:
                app.database.close()
        for part in (runtime.directory, runtime.bus, runtime.cache):
            await part.close()
        runtime.blobs.close()
        runtime.identity.close()

    async def _drain(self, grace: float, accept: float) -> None:
        """Closes the public doors, then the internal ones, once other processes have had time to notice."""
        called = self._internal and self._vitals.started
        noticed = asyncio.ensure_future(asyncio.sleep(min(accept, grace) if called else 0))
        for door in reversed(self._public):
            await door.close(grace)
        await noticed
        await asyncio.gather(*(door.left(2 * min(accept, grace)) for door in self._internal.values()))
        await asyncio.gather(*(door.close(grace) for door in self._internal.values()))
        for door in self._observed:
            await door.close(grace)


async def run(names: Sequence[str], env: Mapping[str, str] = os.environ) -> None:
    """Runs services until SIGTERM or SIGINT; a second signal stops at once. Prints on stdout where they listen."""
    logging.getLogger("services").addHandler(Terminal(sys.stdout))
    process = Process(names, env)
    gc.freeze()  # modules are never garbage
    gc.enable()
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def stopping() -> None:
        if stop.is_set():
            os._exit(130)
        process.runtime.draining = True  # so that a start which still waits gives up
        stop.set()

    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stopping)
    try:
        await process.start()
        await stop.wait()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await process.stop()
