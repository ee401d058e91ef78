from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.kit.auth import Scope
from services.kit.db import Database
from services.kit.errors import AlreadyExists, Code, Failure, NotFound
from services.kit.timestamps import uuid7
from services.logs.database import open_database
from services.logs.subscriptions.domain import DEAD, DELIVERED, PENDING, Created, Delivery, Message, Subscription
from services.logs.subscriptions.store import Store
from services.logs.subscriptions.watched import Watched

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACME, RIVAL = Scope("acme"), Scope("rival")
MESSAGE = Message({"content-type": "application/json", "aimass-subject": "a: b"}, b"{}")


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    made = open_database("", tmp_path)
    await made.start()
    yield made
    made.close()


class Clock:
    """A time that a test sets."""

    at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(db: Database, clock: Clock) -> Store:
    return Store(db, Watched(clock))


def subscription(name: str = "hooks", start: int = 0) -> Subscription:
    return Subscription(name, "", "alarm", "https://hooks.example.org/", "", "", NOW, NOW, start=start)


def delivery(number: int, name: str = "hooks", at: datetime = NOW) -> Delivery:
    return Delivery(uuid7(), name, f"r{number}", PENDING, 0, 0, "", NOW, at)


async def create(store: Store, one: Subscription | None = None, scope: Scope = ACME) -> None:
    await store.create(scope, Created(one or subscription(), "whsec_"), b"secret", None)


async def note(store: Store, *made: Delivery, scope: Scope = ACME, place: tuple[int, int] = (0, 1)) -> int:
    def deliver(to: Subscription) -> Sequence[tuple[Delivery, Message]]:
        return [(one, MESSAGE) for one in made if one.subscription == to.subscription]

    filters = (await store.watched()).get(scope, ())
    return await store.note("test", place, {scope: dict.fromkeys(filters, deliver)})


async def test_a_delivery_and_the_place_are_written_together(store: Store) -> None:
    await create(store)
    assert await store.position("test") == (0, 0)
    assert await note(store, delivery(1), delivery(2), place=(7, 42)) == 2

    assert await store.position("test") == (7, 42)
    (due, _) = await store.due(NOW, 8)
    assert (due.scope, due.url, due.secret, due.message) == (ACME, "https://hooks.example.org/", b"secret", MESSAGE)


async def test_a_match_that_fails_notes_no_place(store: Store) -> None:
    def broken(to: Subscription) -> Sequence[tuple[Delivery, Message]]:
        raise RuntimeError("no")

    await create(store)
    with pytest.raises(RuntimeError):
        await store.note("test", (7, 42), {ACME: {subscription().filter: broken}})
    assert await store.position("test") == (0, 0)


async def test_a_record_that_is_looked_at_again_makes_no_second_delivery(store: Store) -> None:
    await create(store)
    await create(store, subscription("other"))
    assert await note(store, delivery(1)) == 1
    assert await note(store, delivery(1), delivery(1, "other"), delivery(2)) == 2

    page = await store.deliveries(ACME, "hooks", 10, "")
    assert sorted(one.record for one in page.items) == ["r1", "r2"]


async def test_one_with_many_hides_no_other(store: Store) -> None:
    for name in ("busy", "calm"):
        await create(store, subscription(name))
    await note(store, *(delivery(number, "busy") for number in range(50)), delivery(99, "calm"))

    due = await store.due(NOW, 4)
    assert sorted(one.delivery.subscription for one in due) == ["busy"] * 4 + ["calm"]


async def test_what_is_not_due_waits(store: Store) -> None:
    await create(store)
    await note(store, delivery(1, at=NOW + timedelta(seconds=5)))

    assert await store.due(NOW, 8) == []
    assert len(await store.due(NOW + timedelta(seconds=5), 8)) == 1


async def test_what_is_settled_is_not_sent_again_until_it_is_retried(store: Store) -> None:
    await create(store)
    one = delivery(1)
    await note(store, one)
    await store.settle(ACME, one.delivery, state=DEAD, attempts=3, error="x", next_attempt_time=None)
    assert await store.due(NOW, 8) == []

    again = await store.retry(ACME, "hooks", one.delivery, NOW)
    assert (again.state, again.attempts) == (PENDING, 0)
    assert len(await store.due(NOW, 8)) == 1


async def test_the_deliveries_of_a_deleted_one_wait(store: Store) -> None:
    await create(store)
    await note(store, delivery(1))
    await store.change(ACME, "hooks", "", lambda old: replace(old, delete_time=NOW))

    assert await store.due(NOW, 8) == []
    await store.change(ACME, "hooks", "", lambda old: replace(old, delete_time=None), deleted=True)
    assert len(await store.due(NOW, 8)) == 1


async def test_a_change_needs_the_present_etag(store: Store) -> None:
    await create(store)
    changed = await store.change(ACME, "hooks", "1", lambda old: replace(old, description="x", generation=2))
    assert changed == await store.get(ACME, "hooks")

    with pytest.raises(Failure) as caught:
        await store.change(ACME, "hooks", "1", lambda old: old)
    assert caught.value.code is Code.ETAG_MISMATCH


async def test_a_name_is_taken_once_in_a_tenant(store: Store) -> None:
    await create(store)
    await create(store, scope=RIVAL)

    with pytest.raises(AlreadyExists):
        await create(store)
    assert (await store.watched()).keys() == {ACME, RIVAL}


async def test_a_tenant_does_not_touch_anothers(store: Store) -> None:
    await create(store)
    one = delivery(1)
    await note(store, one)

    with pytest.raises(NotFound):
        await store.change(RIVAL, "hooks", "", lambda old: old)
    with pytest.raises(NotFound):
        await store.retry(RIVAL, "hooks", one.delivery, NOW)
    await store.settle(RIVAL, one.delivery, state=DELIVERED)
    assert len(await store.due(NOW, 8)) == 1
    assert (await store.deliveries(RIVAL, "hooks", 10, "")).items == ()


async def test_deliveries_are_listed_newest_first_in_pages(store: Store) -> None:
    await create(store)
    made = sorted((delivery(number) for number in range(5)), key=lambda one: one.delivery)
    await note(store, *made)

    first = await store.deliveries(ACME, "hooks", 3, "")
    rest = await store.deliveries(ACME, "hooks", 3, first.items[-1].delivery)
    assert [one.delivery for page in (first, rest) for one in page.items] == [one.delivery for one in reversed(made)]
    assert (bool(first.next_token), rest.next_token) == (True, "")


async def test_only_subscriptions_whose_filter_matches_get_something_and_each_filter_is_watched_once(
    store: Store,
) -> None:
    for number in range(600):
        await create(store, replace(subscription(f"s{number}"), filter=f"word{number % 520}"))
    await create(store, replace(subscription("theirs"), filter="word1"), RIVAL)
    filters = (await store.watched())[ACME]
    assert sorted(filters) == sorted(f"word{number}" for number in range(520))

    def deliver(to: Subscription) -> Sequence[tuple[Delivery, Message]]:
        return [(delivery(0, to.subscription), MESSAGE)]

    matched = {ACME: {text: deliver for text in filters if text != "word2"}}
    assert await store.note("test", (0, 1), matched) == 598


async def test_a_filter_is_watched_from_its_beginning_and_not_for_ever(store: Store, clock: Clock) -> None:
    await store.watched()
    await create(store)
    assert await store.watched() == {ACME: (subscription().filter,)}

    await store.change(ACME, "hooks", "", lambda old: replace(old, filter="kind:metric"))
    assert set((await store.watched())[ACME]) == {subscription().filter, "kind:metric"}
    clock.at += 100
    assert await store.watched() == {ACME: ("kind:metric",)}


async def test_a_deleted_one_is_watched_no_more_after_a_while(store: Store, clock: Clock) -> None:
    await create(store)
    await store.change(ACME, "hooks", "", lambda old: replace(old, delete_time=NOW))
    clock.at += 100

    assert await store.watched() == {}
