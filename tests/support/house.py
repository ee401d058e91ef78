"""Services in this process for tests: real databases, a real bus, real guards, no doors unless asked for."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from services.kit import contract
from services.kit.auth import Principal, Scope
from services.kit.bus import Event, NearBus
from services.kit.running import Process
from tests.support import servers
from tests.support.prepared import prepare

M = TypeVar("M", bound=Message)


class House:
    """A running process and stubs of its services."""

    def __init__(self, process: Process) -> None:
        self.process, self.runtime = process, process.runtime

    def age(self) -> None:
        """Makes its cache a minute older: what is signed is taken at once, as some time after a start."""
        self.runtime.cache.born -= 60  # type: ignore[misc]

    def stub(
        self,
        kind: Any,
        service: str,
        *permissions: str,
        tenant: str = "acme",
        project: str = "default",
        **metadata: str,
    ) -> Any:
        """A stub whose calls are made by a key of a tenant; all permissions if none is named.

        Further metadata as keywords with underscores: idempotency_key="k", if_match='"3"'.
        """
        principal = Principal(Scope(tenant, project), "key:test", permissions or ("*",))
        extra = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
        return kind(_Caller(self.runtime.channel(service), self.runtime, service, principal, extra))

    def metadata(self, service: str, *permissions: str, tenant: str = "acme", project: str = "default") -> Any:
        principal = Principal(Scope(tenant, project), "key:test", permissions or ("*",))
        return self.runtime.metadata(service, principal)

    async def publish(self, message: Message, kind: str, name: str, tenant: str = "acme", event_id: str = "") -> None:
        """Says what another service would say."""
        event = Event.of(message, Scope(tenant), kind, name, "test", self.runtime.now())
        if event_id:
            event.headers["ce_id"] = event_id
        await self.runtime.bus.publish([event])

    async def heard(self, kind: type[M], count: int = 1, seconds: float = 30) -> list[M]:
        """The first `count` events of a type, from the beginning of the log.

        An event whose publisher was killed before it had marked it is there again with the same id, which is left out.
        """
        reader = await self.runtime.bus.reader([contract.topic(kind.DESCRIPTOR)], f"test-{id(object())}")
        found: dict[str, M] = {}
        async with asyncio.timeout(seconds):
            while len(found) < count:
                for event in await reader.poll(100):
                    if event.type == kind.DESCRIPTOR.full_name:
                        found.setdefault(event.id, kind.FromString(event.body))
        return list(found.values())


class _Caller:
    """A channel that adds the caller's metadata."""

    def __init__(self, channel: Any, runtime: Any, service: str, principal: Principal, extra: Any) -> None:
        self._channel, self._runtime, self._service, self._principal = channel, runtime, service, principal
        self._extra = extra

    def __getattr__(self, kind: str) -> Any:
        make = getattr(self._channel, kind)

        def method(path: str, *args: Any, **options: Any) -> Any:
            call, principal = make(path, *args, **options), _for(path, self._principal)

            def with_caller(request: Any, timeout: float | None = None, metadata: Any = ()) -> Any:
                own = self._runtime.metadata(self._service, principal)
                return call(request, timeout=timeout, metadata=(*own, *self._extra, *metadata))

            return with_caller

        return method


def _for(path: str, principal: Principal) -> Principal:
    """Internal methods are called by the service that the contract names."""
    method = contract.all_methods().get(path)
    callers = method.policy.callers if method and not method.public else ()
    return replace(principal, id=f"service:{callers[0]}") if callers else principal


def databases(home: Path, services: Sequence[str]) -> dict[str, str]:
    """With AIMASS_TEST_POSTGRES_ALL=1 a database on PostgreSQL for each service, the same one when it starts again."""
    if not os.environ.get("AIMASS_TEST_POSTGRES_ALL"):
        return {}
    home.mkdir(parents=True, exist_ok=True)
    notes = {name: home / f"{name}.database" for name in services}
    for note in notes.values():
        if not note.exists():
            note.write_text(servers.database(servers.address("postgres")))
    return {f"AIMASS_{name.upper()}_DATABASE_URL_FILE": str(note) for name, note in notes.items()}


def _unsaid(services: Sequence[str], env: dict[str, str]) -> list[str]:
    """Those whose database nobody has chosen."""
    chosen = ("DATABASE_URL", "DATABASE_URL_FILE")
    return [name for name in services if not any(f"AIMASS_{name.upper()}_{word}" in env for word in chosen)]


@contextlib.asynccontextmanager
async def house(home: Path, *services: str, **env: str) -> AsyncIterator[House]:
    """Runs services on a home folder; settings as keywords: AIMASS_LOGS_X="1"."""
    env = {
        "AIMASS_HOME": str(home),
        "AIMASS_DRAIN_SECONDS": "1",
        "AIMASS_DISK_PERCENT": "100",  # however full the disk is that the tests run on
        **databases(home, _unsaid(services, env)),
        **env,
    }
    process = Process(services, env)
    near = ["bus"] if isinstance(process.runtime.bus, NearBus) else []
    prepare(process.runtime.home, *_unsaid(services, env), *near)
    try:
        await process.start()
        yield House(process)
    finally:
        await process.stop()


async def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """The first true value of a condition (sync or async). Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.02)
