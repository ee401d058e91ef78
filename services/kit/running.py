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
from services.kit.terminal import Terminal
from services.kit.vitals import Vitals

log = logging.getLogger(__name__)


def build(name: str, settings: Settings, runtime: Runtime) -> App:
    """Composes one service by name and puts its methods on the local channel."""
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
        """Composes the services; opens nothing. Raises ConfigError."""
        others = map(config.of, config.named(SERVICES, env))
        shared, own = config.load_all(map(config.of, names), others, env)
        self._settings = dict(zip(names, own, strict=True))
        self.runtime = Runtime(names, env, shared)
        self._apps = {name: build(name, found, self.runtime) for name, found in self._settings.items()}
        # In the order of their opening; internal ones are for other services, public ones belong to the services here.
        self._observed: list[Door] = []
        self._internal: dict[str, GrpcDoor] = {}
        self._public: list[Door] = []
        self._vitals = Vitals(self.runtime, self._apps)

    async def start(self) -> None:
        """Opens databases, then the bus, runs what must run before requests, then opens the doors."""
        runtime = self.runtime
        if listen := runtime.settings.observe_listen:
            # First to open and last to close: it tells of the start and of the stop.
            (runtime.home / "observed").unlink(missing_ok=True)  # where it was before, somebody else may be by now
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
            runtime.spawn(self._hear_and_tell(name, app))
        if runtime.draining:  # it was told to stop while it waited: nobody is to come
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
        # They hear what comes from now on, and what was before is asked for: in the other order some would be missed.
        self._hear(name, app, broadcast=True)
        for task in app.tasks:
            runtime.keep_running(task)

    def _hear(self, name: str, app: App, broadcast: bool) -> None:
        base, runtime = f"{name}-{self.runtime.instance}" if broadcast else name, self.runtime
        for index, listener in enumerate(app.listeners):
            if listener.broadcast is broadcast:
                group = f"{base}-{index}" if index else base
                runtime.spawn(consume(runtime.bus, listener, group, runtime.now))

    async def _hear_and_tell(self, name: str, app: App) -> None:
        """What goes over the bus and is kept for us, behind what requests wait for: to begin takes half of a start."""
        await self._vitals.until_ready(name)
        if app.schema and app.database:
            self.runtime.spawn(Relay(app.schema.outbox, app.schema.tenure, app.database, self.runtime.bus).run())
        self._hear(name, app, broadcast=False)

    async def stop(self) -> None:
        """Drains the doors, stops the work, closes what was opened; in the reverse order of `start`."""
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
                app.schema.operations.on_cancel.clear()  # the schema outlives the services of this process
            if app.database:
                app.database.close()
        for part in (runtime.directory, runtime.bus, runtime.cache):
            await part.close()
        runtime.blobs.close()
        runtime.identity.close()

    async def _drain(self, grace: float, accept: float) -> None:
        """Closes the public doors, then those that other processes have had time to leave."""
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
    """Hosts services until SIGTERM or SIGINT; a second signal stops at once. Says on stdout where they are."""
    logging.getLogger("services").addHandler(Terminal(sys.stdout))
    process = Process(names, env)
    gc.freeze()  # modules and what they hold are no garbage, now or later
    gc.enable()
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def stopping() -> None:
        if stop.is_set():
            os._exit(130)
        process.runtime.draining = True  # a start that waits for something ends its waiting
        stop.set()

    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stopping)
    try:
        await process.start()
        await stop.wait()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await process.stop()
