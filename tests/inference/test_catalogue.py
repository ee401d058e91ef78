"""What is loaded follows what releases say, in whatever order news and snapshots come."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from aimass.v1.inference_events_pb2 import EngineChanged
from services.inference.database import open_database, schema
from services.inference.domain.engines import Release, Released, State
from services.inference.engine_onnxruntime import OnnxRuntimeEngine, OnnxRuntimeLoader
from services.inference.service.catalogue import Catalogue, Key, Surroundings
from services.inference.wire import release_from_wire
from services.kit.auth import Scope
from services.kit.blobs import FolderBlobs
from services.kit.bus import Event, NearBus
from services.kit.errors import Unavailable
from services.kit.outbox import Publisher
from services.kit.relay import Relay
from tests.support import models
from tests.support.house import until

ACME = Scope("acme")


class Instance:
    """A catalogue on real blobs and a real outbox."""

    def __init__(self, home: Path, loader: OnnxRuntimeLoader | None = None, keep_previous: bool = True) -> None:
        self.blobs, self.db, self.bus = FolderBlobs(home / "blobs"), open_database("", home), NearBus(home / "bus.db")
        spawn = asyncio.get_running_loop().create_task
        self.away = False
        surroundings = Surroundings(
            self.read,
            loader or OnnxRuntimeLoader(),
            Publisher(self.db, schema.outbox),
            spawn,
            lambda: datetime.now(UTC),
            "i-1",
        )
        self.catalogue = Catalogue(surroundings, keep_previous, unload_seconds=0.02)

    async def read(self, tenant: str, digest: str) -> bytes:
        if self.away:
            raise Unavailable("the store is away")
        return await self.blobs.get(tenant, digest)

    async def version(self, number: int, data: bytes = b"") -> Released:
        from aimass.v1 import releases_pb2 as pb

        data = data or models.logistic(seed=number)
        wire = pb.ReleasedVersion(version=number, model_digest=await self.blobs.put("acme", data))
        wire.signature.CopyFrom(models.signature(data))
        released = release_from_wire(pb.Release(desired=wire)).desired
        assert released
        return released

    def states(self) -> dict[int, State]:
        return {view.version: view.state for _, view in self.catalogue.views()}

    def is_in(self, state: State) -> bool:
        return self.states() == {1: state}

    async def hear(self, release: Release, again: bool = False) -> None:
        await self.catalogue.hear(ACME, release, again)
        await self.catalogue.settled()

    async def told(self) -> list[tuple[int, int, int]]:
        """Version, state and generation of every event so far."""
        await Relay(schema.outbox, schema.tenure, self.db, self.bus).flush()
        reader = await self.bus.reader(["aimass.inference.v1"], f"test-{id(object())}")
        events: list[Event] = await asyncio.wait_for(reader.poll(1000), 5)
        found = [EngineChanged.FromString(event.body) for event in events]
        return [(message.engine.version, message.engine.state, message.generation) for message in found]


class Leaving(OnnxRuntimeLoader):
    """What a server of its own may do: its versions go and come back."""

    def __init__(self) -> None:
        super().__init__()
        self.engines: list[OnnxRuntimeEngine] = []
        self._turned = asyncio.Event()

    async def load(self, name: str, released: Released, read: Callable[[], Awaitable[bytes]]) -> OnnxRuntimeEngine:
        self.engines.append(await super().load(name, released, read))
        return self.engines[-1]

    async def changed(self) -> Sequence[OnnxRuntimeEngine]:
        await self._turned.wait()
        self._turned.clear()
        return self.engines

    def turn(self, up: bool) -> None:
        for engine in self.engines:
            engine.up = up
        self._turned.set()


@pytest.fixture
async def instance(tmp_path: Path) -> AsyncIterator[Instance]:
    async with started(Instance(tmp_path)) as made:
        yield made


@contextlib.asynccontextmanager
async def started(made: Instance) -> AsyncIterator[Instance]:
    await made.db.start()
    schema.tenure.bind(made.db, "one")
    await made.bus.start()
    yield made
    await made.catalogue.close()
    made.db.close()
    await made.bus.close()
    made.blobs.close()


async def test_what_is_desired_and_what_serves_is_loaded(instance: Instance) -> None:
    one, two = [await instance.version(number) for number in (1, 2)]
    await instance.hear(Release("late", 4, desired=two, serving=one, awaited=True))

    assert instance.states() == {1: State.READY, 2: State.READY}
    assert instance.catalogue.find(Key(ACME, "late", 2))
    assert instance.catalogue.find(Key(Scope("other"), "late", 2)) is None
    assert sorted(await instance.told()) == [(1, 2, 4), (2, 2, 4)]


async def test_older_news_change_nothing(instance: Instance) -> None:
    one, two = await instance.version(1), await instance.version(2)
    await instance.hear(Release("late", 5, desired=two, serving=two))
    await instance.hear(Release("late", 4, desired=one, serving=one))

    assert instance.states() == {2: State.READY}


async def test_the_same_news_twice_are_told_once(instance: Instance) -> None:
    release = Release("late", 1, desired=await instance.version(1), awaited=True)
    for _ in range(3):
        await instance.hear(release, again=True)

    assert await instance.told() == [(1, 2, 1)]


async def test_what_is_loaded_already_is_told_to_a_new_change(instance: Instance) -> None:
    one, two = await instance.version(1), await instance.version(2)
    await instance.hear(Release("late", 2, desired=two, serving=two, previous=one))
    await instance.hear(Release("late", 3, desired=one, serving=two, awaited=True))
    await instance.hear(Release("late", 4, desired=one, serving=one, previous=two))
    await instance.hear(Release("late", 5, desired=two, serving=one, awaited=True))

    assert await instance.told() == [(2, 2, 2), (1, 2, 3), (2, 2, 5)]


async def test_a_version_that_does_not_load_says_why_and_is_tried_again(instance: Instance) -> None:
    good = await instance.version(1)
    missing = good._replace(digest="sha256:" + "0" * 64)
    await instance.hear(Release("late", 1, desired=missing, awaited=True))
    ((_, view),) = instance.catalogue.views()
    assert (view.state, view.reason) == (State.FAILED, "there is no sha256:" + "0" * 64)
    assert instance.catalogue.find(Key(ACME, "late", 1)) is None

    await instance.hear(Release("late", 2, desired=good, awaited=True))
    assert instance.states() == {1: State.READY}


async def test_a_bug_of_the_loader_is_a_failure_without_its_text(instance: Instance) -> None:
    good = await instance.version(1)
    nonsense = good._replace(signature=good.signature._replace(inputs=None))  # type: ignore[arg-type]
    await instance.hear(Release("late", 1, desired=nonsense, awaited=True))

    ((_, view),) = instance.catalogue.views()
    assert (view.state, view.reason) == (State.FAILED, "internal error")
    assert await instance.told() == [(1, 3, 1)]


async def test_a_version_that_cannot_answer_for_a_while_is_told_as_loading_then_as_ready(tmp_path: Path) -> None:
    async with started(Instance(tmp_path, loader := Leaving())) as instance:
        await instance.hear(Release("late", 1, desired=await instance.version(1), awaited=True))
        following = asyncio.ensure_future(instance.catalogue.follow())
        for up, state in ((False, State.LOADING), (True, State.READY)):
            loader.turn(up)
            await until(partial(instance.is_in, state))
        following.cancel()

        # 2 is ready, 1 is loading.
        assert await instance.told() == [(1, 2, 1), (1, 1, 1), (1, 2, 1)]


async def test_a_version_that_is_down_is_not_told_as_ready_to_a_new_change(tmp_path: Path) -> None:
    async with started(Instance(tmp_path, loader := Leaving())) as instance:
        one = await instance.version(1)
        await instance.hear(Release("late", 1, desired=one, awaited=True))
        loader.turn(False)
        await instance.hear(Release("late", 2, desired=one, awaited=True))

        assert await instance.told() == [(1, 2, 1), (1, 1, 2)]


async def test_a_store_that_is_away_is_waited_for(instance: Instance) -> None:
    one = await instance.version(1)
    path = instance.blobs.path("acme", one.digest)
    instance.away = True
    await instance.catalogue.hear(ACME, Release("late", 1, desired=one, awaited=True))
    await asyncio.sleep(0.1)
    assert (instance.states(), path.exists()) == ({1: State.LOADING}, True)

    instance.away = False
    await instance.catalogue.settled()
    assert instance.states() == {1: State.READY}


async def test_what_failed_goes_when_no_release_names_it(instance: Instance) -> None:
    good = await instance.version(1)
    bad = good._replace(version=2, digest="sha256:" + "0" * 64)
    await instance.hear(Release("late", 1, desired=bad, serving=good, awaited=True))
    await instance.hear(Release("late", 2, desired=good, serving=good))

    assert instance.states() == {1: State.READY}


async def test_a_version_is_told_as_going_before_it_is_gone(instance: Instance) -> None:
    one, two = await instance.version(1), await instance.version(2)
    await instance.hear(Release("late", 1, desired=one, serving=one))
    entry = instance.catalogue.find(Key(ACME, "late", 1))
    assert entry
    assert entry.engine
    entry.engine.calls.enter()
    await instance.hear(Release("late", 2, desired=two, serving=two))
    await until(lambda: instance.states()[1] is State.UNLOADING)
    # A call that was pinned to it before still finds it.
    assert instance.catalogue.find(Key(ACME, "late", 1)) is entry

    entry.engine.calls.leave()
    await until(lambda: instance.states() == {2: State.READY})
    assert (1, 4, 2) in await instance.told()


async def test_a_version_that_is_named_again_stays(instance: Instance) -> None:
    one, two = await instance.version(1), await instance.version(2)
    await instance.hear(Release("late", 1, desired=one, serving=one))
    entry = instance.catalogue.find(Key(ACME, "late", 1))
    assert entry
    assert entry.engine
    entry.engine.calls.enter()
    await instance.hear(Release("late", 2, desired=two, serving=two))
    await until(lambda: instance.states()[1] is State.UNLOADING)
    await instance.hear(Release("late", 3, desired=one, serving=two, awaited=True))
    entry.engine.calls.leave()
    await asyncio.sleep(0.05)

    assert instance.states() == {1: State.READY, 2: State.READY}
    assert (await instance.told())[-1] == (1, 2, 3)


async def test_the_version_before_is_loaded_as_well_after_what_serves(instance: Instance) -> None:
    one, two = await instance.version(1), await instance.version(2)
    await instance.hear(Release("late", 4, desired=two, serving=two, previous=one))
    assert instance.states() == {2: State.READY}

    await until(lambda: instance.states() == {1: State.READY, 2: State.READY})
    assert instance.catalogue.find(Key(ACME, "late", 1))


async def test_nobody_waits_for_a_version_before_that_cannot_be_had(instance: Instance) -> None:
    two = await instance.version(2)
    gone = two._replace(version=1, digest="sha256:" + "0" * 64)
    await instance.hear(Release("late", 4, desired=two, serving=two, previous=gone))
    await until(lambda: instance.states() == {1: State.FAILED, 2: State.READY})
    await instance.hear(Release("late", 5, desired=two, serving=two))

    assert instance.states() == {2: State.READY}


async def test_the_version_before_is_not_loaded_where_it_shall_not_be_kept(tmp_path: Path) -> None:
    async with started(Instance(tmp_path, keep_previous=False)) as instance:
        one, two = await instance.version(1), await instance.version(2)
        await instance.hear(Release("late", 4, desired=two, serving=two, previous=one))
        await asyncio.sleep(0.05)

        assert instance.states() == {2: State.READY}


async def test_the_version_before_goes_when_it_shall_not_be_kept(instance: Instance) -> None:
    one, two = await instance.version(1), await instance.version(2)
    release = Release("late", 2, desired=two, serving=two, previous=one)

    assert release.may_have(keep_previous=True) == {1, 2}
    assert release.may_have(keep_previous=False) == {2}
    assert set(release.must_have()) == {2}
    assert set(replace(release, desired=None, serving=None).may_have(keep_previous=False)) == set()


async def test_models_of_one_name_in_two_tenants_are_two(instance: Instance) -> None:
    one = await instance.version(1)
    await instance.blobs.put("other", models.logistic(seed=1))
    for scope in (ACME, Scope("other")):
        await instance.catalogue.hear(scope, Release("late", 1, desired=one, serving=one))
    await instance.catalogue.settled()

    assert [(scope.tenant, view.version) for scope, view in instance.catalogue.views()] == [("acme", 1), ("other", 1)]


async def test_versions_with_a_share_are_loaded_and_go_when_they_have_none(instance: Instance) -> None:
    one, two = await instance.version(1), await instance.version(2)
    release = Release("late", 1, desired=one, serving=one)
    await instance.hear(replace(release, generation=2, shared=(two,)))
    await until(lambda: instance.states() == {1: State.READY, 2: State.READY})

    await instance.hear(replace(release, generation=3))
    await until(lambda: instance.states() == {1: State.READY})


class Ordered(OnnxRuntimeLoader):
    """Says in which order it was asked to load, and loads one only when it may."""

    def __init__(self, held: int) -> None:
        super().__init__()
        self.asked: list[int] = []
        self._held, self.may = held, asyncio.Event()

    async def load(self, name: str, released: Released, read: Callable[[], Awaitable[bytes]]) -> OnnxRuntimeEngine:
        self.asked.append(released.version)
        if released.version == self._held:
            await self.may.wait()
        return await super().load(name, released, read)


async def test_what_serves_waits_for_no_version_with_a_share(tmp_path: Path) -> None:
    loader = Ordered(held=2)
    async with started(Instance(tmp_path, loader)) as instance, asyncio.timeout(20):
        one, two = await instance.version(1), await instance.version(2)
        await instance.hear(Release("late", 1, desired=one, serving=one, shared=(two,)))

        assert instance.states()[1] is State.READY
        await until(lambda: loader.asked == [1, 2])
        loader.may.set()
        await until(lambda: instance.states() == {1: State.READY, 2: State.READY})


async def test_a_share_of_what_is_withdrawn_loads_nothing(instance: Instance) -> None:
    await instance.hear(Release("late", 1, shared=(await instance.version(2),)))

    assert instance.states() == {}


async def test_a_tenant_that_is_forgotten_has_nothing_loaded_and_gets_nothing_more(instance: Instance) -> None:
    release = Release("late", 3, serving=await instance.version(1), previous=await instance.version(2))
    await instance.hear(release)
    await until(lambda: instance.states() == {1: State.READY, 2: State.READY})

    await instance.catalogue.forget("other")
    assert instance.states() == {1: State.READY, 2: State.READY}
    await instance.catalogue.forget("acme")
    await until(lambda: instance.states() == {})
    await instance.hear(replace(release, generation=4))

    assert instance.states() == {}
