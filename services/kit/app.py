"""What a service offers (App) and what a process gives it (Runtime)."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from services.kit import adapters, checks, config, ejection
from services.kit.auth import Identity, Principal, Scope, service_principal
from services.kit.bus import Bus
from services.kit.cache import Cache
from services.kit.calls import CallTable
from services.kit.config import Installation
from services.kit.db import Database
from services.kit.discovery import Directory
from services.kit.forgetting import Forget, Forgetting
from services.kit.inbox import Listener
from services.kit.leftovers import clear_for_ever
from services.kit.member import connector
from services.kit.schema import Schema
from services.kit.space import BoundedUploads, Space
from services.kit.tasks import keep_running, name_of
from services.kit.telemetry import Telemetry
from services.kit.timestamps import uuid7

log = logging.getLogger(__name__)
OPERATOR = {"operator": True}  # `extra` of log lines that the terminal shows as well
_PATIENCE = 5.0  # seconds between two cancellations of a task that does not end


class Door(Protocol):
    """A listener for requests."""

    async def open(self) -> None:
        """Starts to accept requests."""

    async def close(self, grace: float) -> None:
        """Accepts no more; lets those in flight finish within `grace` seconds."""


@dataclass(frozen=True)
class App:
    """Everything one service offers. Building one opens no port and starts no task."""

    # Servicers by the full name of their service.
    rpc: Mapping[str, Any] = field(default_factory=dict)
    # Functions that services of the same process may call directly, by name. They pass no guard: they are for calls
    # that a service makes on its own behalf, in a scope that its own guard has checked.
    near: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    database: Database | None = None
    schema: Schema | None = None
    listeners: Sequence[Listener] = ()
    # Awaited in order once every database of the process is open.
    start: Sequence[Callable[[], Awaitable[None]]] = ()
    # Background tasks; one that fails is restarted.
    tasks: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    doors: Sequence[Door] = ()
    # Awaited in order at the end.
    close: Sequence[Callable[[], Awaitable[None]]] = ()
    # Called, repeatedly, with tenants whose keys are destroyed: each drops what the service has of their content.
    forget: Sequence[Forget] = ()
    # Whether it can answer.
    ready: Callable[[], bool] = lambda: True


class Runtime:
    """What a process shares with the services it hosts."""

    def __init__(self, hosted: Sequence[str], env: Mapping[str, str], settings: Installation | None = None) -> None:
        """`settings` are those of the environment, if they are loaded. Raises ConfigError when it does not fit."""
        self.hosted = tuple(hosted)
        self.settings = settings or config.load(Installation, env)
        self.home = self.settings.home.resolve()
        # Only the owner may read what near adapters keep in it.
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.instance = f"{'all' if len(self.hosted) > 1 else self.hosted[0]}-{uuid7()[-12:]}"
        self.identity = Identity(self.instance, self.settings.keys_dir or self.home / "keys")
        self.vault = adapters.vault(self.settings)
        self.credentials = adapters.credentials(self.settings)
        self.calls = CallTable(self.settings.calls_file)
        source, connect = adapters.source(self.settings, self.identity), connector(self.credentials)
        self.directory = Directory(self.hosted, source, connect, self.calls)
        self.telemetry = Telemetry("-".join(self.hosted)[:60], self.home, self.settings.log_level)
        self.collector = adapters.collector(env, self.telemetry.process, self.instance)
        self.storage = adapters.storage(self.settings, self.vault)
        self.blobs, self.mirrors = self.storage.blobs, self.storage.mirrors
        self.forgetting = Forgetting(self.storage.destroyed)
        self.space = Space(self.home, self.settings.disk_percent)
        self.uploads = BoundedUploads(self.storage.uploads, self.space)
        self.random = random.SystemRandom()
        self.draining = False
        self.apps: dict[str, App] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.bus: Bus = adapters.bus(self.settings, self.identity, self.hosted[0], self.credentials)
        self.cache: Cache = adapters.cache(self.settings)

    def now(self) -> datetime:
        """The wall clock, UTC."""
        return datetime.now(UTC)

    def channel(self, service: str) -> Any:
        """A channel to a service, for generated stubs."""
        return self.directory.channel(service)

    def near(self, service: str, name: str) -> Callable[..., Any] | None:
        """A function in the `near` of a service; None when that runs in another process."""
        app = self.apps.get(service)
        return app.near.get(name) if app else None

    def metadata(self, audience: str, principal: Principal, request_id: str = "") -> tuple[tuple[str, str], ...]:
        """Metadata of a call to a service on behalf of a principal."""
        token = ("authorization", f"Bearer {self.identity.token(audience, principal)}")
        return (token, ("x-request-id", request_id)) if request_id else (token,)

    def as_service(self, name: str, audience: str, scope: Scope, *permissions: str) -> tuple[tuple[str, str], ...]:
        """Metadata of a call that a service makes on its own behalf."""
        return self.metadata(audience, service_principal(name, scope, permissions))

    def spawn(self, work: Coroutine[Any, Any, None], name: str = "") -> asyncio.Task[None]:
        """Runs work as a background task, which is cancelled when the process stops; a failure is logged.

        `name` is what the log calls it; the function's, if none is given.
        """
        task = asyncio.get_running_loop().create_task(work, name=name or name_of(work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep_running(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a background task until the process stops; restarts it when it fails."""
        self.spawn(keep_running(work), name_of(work))

    def start_upkeep(self, renew: Callable[[], None]) -> None:
        """Starts the tasks that reload files, check instances, publish our key, and clear what killed processes left.

        `renew` is called when the certificates have changed.
        """
        if self.credentials:
            self.keep_running(partial(self.credentials.watch, renew))
        self.keep_running(partial(self.calls.watch, self.directory.rule))
        if self.settings.calls_file:
            self.keep_running(partial(checks.watch, lambda: tuple(self.directory.pools), self.calls.check))
        if self.settings.discovery_url:
            self.keep_running(partial(ejection.watch, lambda: tuple(self.directory.pools), self.calls.ejection))
        self.keep_running(self.identity.keep)
        if self.storage.passing:
            self.keep_running(partial(clear_for_ever, self.storage.passing))
        if self.settings.blobs_url.get_secret_value() and not self.storage.keys:
            log.warning("what is kept in the bucket lies there plain: AIMASS_SECRETS_KEY, in all processes, seals it")

    def start_forgetting(self) -> None:
        """Starts the task that drops what is left of tenants whose keys are destroyed."""
        services = [forget for app in self.apps.values() for forget in app.forget]
        self.keep_running(partial(self.forgetting.run, [*services, self.storage.forget]))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s failed", task.get_name(), exc_info=error)

    async def stop_tasks(self) -> None:
        """Cancels all background tasks until they have ended, again and again as `tasks.cancel` does."""
        tasks = set(self._tasks)
        while tasks:
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=_PATIENCE)
            if tasks:
                log.warning("still running: %s", ", ".join(sorted(task.get_name() for task in tasks)))

    def ready(self) -> bool:
        """Every service of the process can answer, and it is not stopping."""
        return not self.draining and all(app.ready() for app in self.apps.values())
