"""R17, dose P: 200 promotions and rollbacks by several callers on the store make one history."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.registry.database import open_database, schema
from services.registry.releases import domain, events
from services.registry.releases.domain import Change, Participants, Release, Released
from services.registry.releases.store import Messages, Store
from services.registry.releases.wire import release_to_wire

SCOPE, NOON = Scope("acme"), datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOON + timedelta(minutes=2)


def of(number: int) -> Released:
    return Released(number, f"sha256:{number}", f"sha256:m{number}", b"\x18\x01")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    db = open_database("", tmp_path)
    await db.start()
    schema.operations.bind(db, lambda: NOON)
    yield Store(db, Messages(lambda scope, release: events.changed(scope, release, NOON), release_to_wire))
    db.close()


async def begin(store: Store, target: Released | None, scope: Scope = SCOPE, model: str = "late") -> str:
    def decide(release: Release | None, operation: str) -> Release:
        return domain.begin(release, model, target, "", Change(operation, "", NOON, LATER))

    return str((await store.begin(scope, model, "aimass.v1.Releases/PromoteVersion", decide, None)).operation)


async def finish(store: Store) -> Release | None:
    return await store.change(
        SCOPE, "late", lambda there: domain.apply(there, "g", there.generation, Participants(1), NOON)
    )


async def test_200_changes_by_four_callers_make_one_history(store: Store) -> None:
    chance, history, refused = random.Random(17), list[tuple[int, int]](), 0

    async def caller() -> None:
        nonlocal refused
        while len(history) < 200:
            release = await store.get(SCOPE, "late")
            back = release.previous if release and chance.random() < 0.3 else None
            try:
                await begin(store, back or of(chance.randint(1, 4)))
            except Failure as failure:
                assert failure.code is Code.IN_PROGRESS
                refused += 1
                continue
            after = await finish(store)
            if after:
                history.append((after.generation, domain.number(after.serving)))

    await asyncio.gather(*(caller() for _ in range(4)))
    last = await store.get(SCOPE, "late")

    assert last
    assert history[-1][1] == domain.number(last.serving)
    assert [generation for generation, _ in history] == sorted(generation for generation, _ in history)
    assert refused


async def test_a_refused_change_leaves_no_operation(store: Store) -> None:
    operation = await begin(store, of(1))
    with pytest.raises(Failure):
        await begin(store, of(2))

    page = await schema.operations.list(SCOPE, 10, "")
    assert [found.operation for found in page.items] == [operation]


async def test_a_release_is_read_back_whole(store: Store) -> None:
    await begin(store, of(1))
    await finish(store)
    operation = await begin(store, of(2))
    release = await store.get(SCOPE, "late")

    assert release == Release(
        model="late",
        generation=3,
        state=domain.State.LOADING,
        update_time=NOON,
        desired=of(2),
        serving=of(1),
        operation=operation,
        deadline=LATER,
    )
    assert await store.of_operation(SCOPE, operation) == release
    assert await store.of_operation(Scope("other"), operation) is None


async def test_changes_under_way_are_found_when_their_time_is_over(store: Store) -> None:
    await begin(store, of(1))
    await begin(store, of(1), Scope("other"))

    assert {scope.tenant for scope, _ in await store.under_way()} == {"acme", "other"}
    assert not await store.under_way(overdue_at=LATER)
    assert len(await store.under_way(overdue_at=LATER + timedelta(seconds=1))) == 2


async def test_a_change_of_nothing_changes_nothing(store: Store) -> None:
    assert await finish(store) is None


async def test_the_snapshot_goes_through_all_pages(store: Store) -> None:
    for tenant in ("b", "a"):
        for model in ("y", "x", "z"):
            await begin(store, of(1), Scope(tenant), model)

    seen = [(scope.tenant, release.model) async for scope, release in store.all(page=2)]

    assert seen == [(tenant, model) for tenant in "ab" for model in "xyz"]
