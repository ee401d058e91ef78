"""The versions that this instance has loaded, and how they come and go with releases."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from services.inference import events
from services.inference.domain.engines import Engine as View
from services.inference.domain.engines import Release, Released, State
from services.inference.engine import Engine, Loader
from services.kit.auth import Scope
from services.kit.errors import Failure, Unavailable
from services.kit.outbox import Publisher

log = logging.getLogger(__name__)
_SOON, _LATER = 0.25, 5.0  # seconds until a load is tried again, doubling, when what it needs is away


class Key(NamedTuple):
    """Names a version."""

    scope: Scope
    model: str
    version: int

    @property
    def name(self) -> str:
        """What no other version of the installation is called."""
        return f"{self.scope.tenant}.{self.scope.project}.{self.model}.{self.version}"


@dataclass
class Entry:
    """A version on its way in, loaded, or on its way out. Used on the event loop only."""

    released: Released
    state: State = State.LOADING
    engine: Engine | None = None
    reason: str = ""
    ready_time: datetime | None = None
    # The generation of its release that was published last.
    published: int = 0


@dataclass(frozen=True)
class Surroundings:
    """The dependencies of the catalogue."""

    read: Callable[[str, str], Awaitable[bytes]]  # tenant, digest -> verified bytes
    loader: Loader
    publisher: Publisher
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    now: Callable[[], datetime]
    instance: str


class Catalogue:
    """Loads the versions that releases name, publishes their states, and unloads the others."""

    def __init__(self, surroundings: Surroundings, keep_previous: bool, unload_seconds: float) -> None:
        self._with, self._keep, self._grace = surroundings, keep_previous, unload_seconds
        self._releases: dict[tuple[Scope, str], Release] = {}
        self._entries: dict[Key, Entry] = {}
        self._going: set[Key] = set()
        self._loads: set[asyncio.Task[None]] = set()
        self._forgotten: set[str] = set()

    @property
    def up(self) -> bool:
        """Whether what runs models can be reached."""
        return self._with.loader.up

    def find(self, key: Key) -> Entry | None:
        """The entry of a version that can answer, or None."""
        entry = self._entries.get(key)
        return entry if entry and entry.engine else None

    def views(self) -> Iterator[tuple[Scope, View]]:
        """Every version, ordered by tenant, model and number."""
        for key in sorted(self._entries):
            yield key.scope, self._view(key, self._entries[key])

    async def hear(self, scope: Scope, release: Release, again: bool = False) -> None:
        """Takes in a release; an older generation changes nothing. `again`: tries failed versions once more."""
        known = self._releases.get((scope, release.model))
        if scope.tenant in self._forgotten or (known and release.generation < known.generation):
            return
        self._releases[scope, release.model] = release
        news = known is None or release.generation > known.generation
        for number, released in release.must_have().items():
            await self._want(Key(scope, release.model, number), released, release, again or news)
        for number, released in release.beside(self._keep).items():
            self._with.spawn(self._keep_warm(Key(scope, release.model, number), released, again or news))
        self._let_go(scope, release)

    async def forget(self, tenant: str) -> None:
        """Unloads all versions of a tenant, for good."""
        self._forgotten.add(tenant)
        for (scope, model), release in list(self._releases.items()):
            if scope.tenant == tenant:
                self._releases[scope, model] = gone = Release(model, release.generation)
                self._let_go(scope, gone)

    async def settled(self) -> None:
        """Returns when nothing is being loaded that has to be."""
        while self._loads:
            await asyncio.gather(*self._loads, return_exceptions=True)

    async def follow(self) -> None:
        """Publishes, for ever, versions that can no longer answer, and those that can again."""
        while True:
            changed = await self._with.loader.changed()
            for key, entry in list(self._entries.items()):
                if entry.engine and entry.engine in changed and entry.state is not State.UNLOADING:
                    entry.state = _state(entry.engine)
                    await self._publish(key, entry)

    async def close(self) -> None:
        """Waits for a load that is under way, and for calls."""
        await self._with.loader.close()

    async def _want(self, key: Key, released: Released, release: Release, try_again: bool) -> None:
        if entry := await self._new(key, released, release, try_again):
            task = self._with.spawn(self._load(key, entry))
            self._loads.add(task)
            task.add_done_callback(self._loads.discard)

    async def _new(self, key: Key, released: Released, release: Release, try_again: bool) -> Entry | None:
        """The entry of a version that is to be loaded now; None if it is there, which is told where that is news."""
        entry = self._entries.get(key)
        if entry is None or (entry.state is State.FAILED and try_again):
            self._entries[key] = Entry(released)
            return self._entries[key]
        if entry.engine and (entry.state is State.UNLOADING or entry.published < self._awaited(release, key.version)):
            entry.state = _state(entry.engine)
            await self._publish(key, entry)
        return None

    async def _keep_warm(self, key: Key, released: Released, try_again: bool) -> None:
        """Loads one with a share, or the one before so that going back to it is at once. What serves comes first."""
        await self.settled()
        release = self._releases[key.scope, key.model]
        if key.version not in release.beside(self._keep):
            return  # no release wants it any more, or one waits for it now
        if entry := await self._new(key, released, release, try_again):
            await self._load(key, entry)

    @staticmethod
    def _awaited(release: Release, version: int) -> int:
        """The generation that waits to hear of a version; 0: none does."""
        waits = release.awaited and release.desired and release.desired.version == version
        return release.generation if waits else 0

    async def _load(self, key: Key, entry: Entry) -> None:
        try:
            entry.engine = await self._opened(key, entry.released)
            entry.state, entry.ready_time = _state(entry.engine), self._with.now()
        except Failure as failure:
            entry.state, entry.reason = State.FAILED, failure.detail
        except Exception:
            log.exception("%s version %d of %s does not load", key.model, key.version, key.scope.tenant)
            entry.state, entry.reason = State.FAILED, "internal error"
        log.info("%s version %d of %s is %s %s", key.model, key.version, key.scope.tenant, entry.state, entry.reason)
        await self._publish(key, entry)
        self._let_go(key.scope, self._releases[key.scope, key.model])

    async def _opened(self, key: Key, released: Released) -> Engine:
        """Tries again while what it needs is away and a release wants it."""
        wait = _SOON
        while True:
            try:
                read = partial(self._with.read, key.scope.tenant, released.digest)
                return await self._with.loader.load(key.name, released, read)
            except Unavailable as failure:
                if self._unnamed(key):
                    raise
                log.warning("%s waits: %s", key.name, failure.detail)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LATER)

    async def _publish(self, key: Key, entry: Entry) -> None:
        generation = self._releases[key.scope, key.model].generation
        event = events.engine_changed(key.scope, self._view(key, entry), generation, self._with.now())
        try:
            await self._with.publisher.tell([event])
            entry.published = generation
        except Failure as failure:  # the next look at the registry tells it
            log.warning("%s version %d: %s", key.model, key.version, failure.detail)

    def _let_go(self, scope: Scope, release: Release) -> None:
        kept = release.may_have(self._keep)
        for key, entry in list(self._entries.items()):
            if (key.scope, key.model) != (scope, release.model) or key.version in kept or key in self._going:
                continue
            if entry.state is State.FAILED:
                del self._entries[key]
            elif entry.engine:
                self._going.add(key)
                self._with.spawn(self._unload(key, entry))

    async def _unload(self, key: Key, entry: Entry) -> None:
        """Unloads a version after a grace period for gateways; stops when a release names it again."""
        try:
            await asyncio.sleep(self._grace)
            if self._unnamed(key):
                entry.state = State.UNLOADING
                await self._publish(key, entry)
            if not entry.engine:
                return
            await entry.engine.calls.ended()
            if entry.state is State.UNLOADING:
                del self._entries[key]
                await entry.engine.close()
                log.info("%s version %d of %s is unloaded", key.model, key.version, key.scope.tenant)
        finally:
            self._going.discard(key)

    def _unnamed(self, key: Key) -> bool:
        return key.version not in self._releases[key.scope, key.model].may_have(self._keep)

    def _view(self, key: Key, entry: Entry) -> View:
        return View(
            instance=self._with.instance,
            model=key.model,
            version=key.version,
            state=entry.state,
            reason=entry.reason,
            ready_time=entry.ready_time,
            in_flight=entry.engine.calls.count if entry.engine else 0,
        )


def _state(engine: Engine) -> State:
    return State.READY if engine.up else State.LOADING
