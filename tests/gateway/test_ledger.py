"""The ledger beside its database: reserved before, settled once after, on all levels of budgets at once."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest_asyncio

from services.gateway.database import open_database, schema
from services.gateway.ledger import events
from services.gateway.ledger.domain import (
    SERVING,
    TRAINING,
    Amounts,
    Claim,
    Entry,
    Meter,
    Period,
    Price,
    PriceList,
    Question,
    Quota,
    State,
)
from services.gateway.ledger.store.entries import Entries
from services.gateway.ledger.store.quotas import Quotas
from services.gateway.ledger.store.report import Report
from services.kit.bus import Event
from services.kit.db import Database
from services.kit.errors import Failure
from services.kit.timestamps import uuid7

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Books:
    """A ledger with a clock of the test's."""

    def __init__(self, database: Database) -> None:
        self.now, self.database = NOON, database
        self.entries = Entries(database, events.usage_settled, lambda connection: self.now)
        self.quotas = Quotas(database, lambda connection: self.now)
        self.report = Report(database)

    async def quota(self, name: str, subject: str, amount: int, meter: Meter = Meter.REQUESTS, **also: Period) -> None:
        period = also.get("period", Period.TOTAL)
        made = Quota(name, "acme", subject, meter, period, amount, self.now, self.now)
        await self.quotas.create(made, events.quota_changed(made, self.now), None)

    async def reserve(self, requests: int, least: int = 1, seconds: float = 60, **fields: str) -> Entry | Failure:
        where = {
            "tenant": "acme",
            "project": "late",
            "principal": "key:abcd1234",
            "kind": SERVING,
            "model": "m",
        } | fields
        tenant, project, principal, kind, model = where.values()
        amounts = Amounts(requests, requests)
        entry = Entry(uuid7(), tenant, project, principal, kind, model, reserved=amounts, owner="g1")
        return (await self.entries.reserve([Claim(entry, Amounts(least, least), seconds)]))[0]

    async def held(self, requests: int, least: int = 1, seconds: float = 60, **fields: str) -> Entry:
        found = await self.reserve(requests, least, seconds, **fields)
        assert isinstance(found, Entry), found
        return found

    async def settle(self, entry: Entry, requests: int) -> list[Entry]:
        return await self.entries.settle([(entry, Amounts(requests, requests))])

    async def standing(self, name: str) -> tuple[int, int]:
        """Spent and reserved."""
        found = (await self.quotas.get("acme", name)).balance
        return found.spent, found.reserved

    async def total(self, principal: str = "") -> Amounts:
        found = await self.report.sums(Question("acme", principal=principal), (), 10)
        return found[0].used if found else Amounts()

    async def told(self) -> int:
        """How many events wait to be said."""
        return (await self.database.read(schema.outbox.backlog))[0]


@pytest_asyncio.fixture
async def books(db_url: str, tmp_path: Path) -> AsyncIterator[Books]:
    database = open_database(db_url, tmp_path)
    await database.start()
    yield Books(database)
    database.close()


async def test_what_was_reserved_is_settled_with_what_was_used(books: Books) -> None:
    await books.quota("all", "tenant", 100)
    entry = await books.held(10)
    before = await books.standing("all")
    (line,) = await books.settle(entry, 4)

    assert before == (0, 10)
    assert await books.standing("all") == (4, 0)
    assert (line.state, line.used, line.estimated) == (State.SETTLED, Amounts(4, 4), False)


async def test_a_line_is_settled_once_and_said_once(books: Books) -> None:
    await books.quota("all", "tenant", 100)
    entry = await books.held(10)
    before = await books.told()
    first, again = await books.settle(entry, 4), await books.settle(entry, 9)

    assert (len(first), again) == (1, [])
    assert await books.standing("all") == (4, 0)
    assert await books.told() == before + 1


async def test_what_was_not_used_is_given_back_without_a_word(books: Books) -> None:
    await books.quota("all", "tenant", 100)
    entry = await books.held(10)
    before = await books.told()

    assert await books.settle(entry, 0) == []
    assert await books.standing("all") == (0, 0)
    assert await books.told() == before
    assert await books.total() == Amounts()


async def test_a_claim_that_is_made_again_has_its_line_already(books: Books) -> None:
    await books.quota("all", "tenant", 100)
    where = ("acme", "late", "key:abcd1234", SERVING, "m")
    claim = Claim(Entry(uuid7(), *where, reserved=Amounts(10, 10)), Amounts(1, 1), 60)
    first, again = await books.entries.reserve([claim]), await books.entries.reserve([claim])

    assert first == again
    assert await books.standing("all") == (0, 10)


async def test_every_level_must_have_room_and_a_refused_one_takes_nothing(books: Books) -> None:
    await books.quota("key", "key:abcd1234", 50)
    await books.quota("project", "project:late", 5)
    await books.quota("tenant", "tenant", 100)
    refused = await books.reserve(10, least=10)

    assert isinstance(refused, Failure)
    assert (refused.code.text, refused.retry_after) == ("quota_exceeded", None)
    assert refused.detail == (
        "quota project of project late: 5 of 5 requests are neither spent nor reserved, 10 are needed"
    )
    for name in ("key", "project", "tenant"):
        assert await books.standing(name) == (0, 0)
    await books.held(10, least=10, project="other")
    assert [await books.standing(name) for name in ("key", "project", "tenant")] == [(0, 10), (0, 0), (0, 10)]


async def test_another_key_and_another_tenant_have_budgets_of_their_own(books: Books) -> None:
    await books.quota("key", "key:abcd1234", 0)
    other = await books.reserve(3, principal="key:zzzz1234")
    foreign = await books.reserve(3, tenant="globex")

    assert isinstance(await books.reserve(1), Failure)
    assert isinstance(other, Entry)
    assert isinstance(foreign, Entry)


async def test_one_takes_at_most_an_eighth_of_what_is_left(books: Books) -> None:
    await books.quota("all", "tenant", 100)
    first, second = await books.held(1000), await books.held(1000)

    assert first.reserved.requests <= 12
    assert second.reserved.requests <= 11


async def test_the_last_of_a_budget_can_be_had(books: Books) -> None:
    await books.quota("all", "tenant", 3)
    for _ in range(3):
        await books.held(1000)

    assert isinstance(await books.reserve(1), Failure)


async def test_a_month_begins_anew(books: Books) -> None:
    await books.quota("monthly", "tenant", 5, period=Period.MONTH)
    late = await books.held(5, least=5)
    refused = await books.reserve(1)
    books.now = datetime(2026, 12, 1, tzinfo=UTC)
    await books.settle(late, 5)
    spent = await books.standing("monthly")
    next_month = await books.held(5, least=5)

    assert isinstance(refused, Failure)
    assert refused.retry_after == (datetime(2026, 12, 1, tzinfo=UTC) - NOON).total_seconds()
    assert spent == (0, 0), "it belongs to the month in which it was begun"
    assert next_month.reserved.requests == 5


async def test_what_was_used_before_a_budget_was_set_counts(books: Books) -> None:
    await books.settle(await books.held(10), 7)
    underway = await books.held(2)
    await books.quota("all", "tenant", 10)
    await books.quota("key", "key:abcd1234", 10)
    await books.quota("other", "project:other", 10)

    assert [await books.standing(name) for name in ("all", "key", "other")] == [(7, 2), (7, 2), (0, 0)]
    assert isinstance(await books.reserve(2, least=2), Failure)
    await books.settle(underway, 0)
    await books.held(3, least=3)
    assert await books.standing("all") == (7, 3)


async def test_a_budget_that_was_away_knows_what_was_used_meanwhile(books: Books) -> None:
    await books.quota("all", "tenant", 10)
    await books.settle(await books.held(4, least=4), 4)
    at = books.now
    gone = await books.quotas.change("acme", "all", lambda q: replace(q, delete_time=at, generation=2), _say)
    await books.settle(await books.held(5, least=5), 5)
    await books.quotas.change("acme", "all", lambda q: replace(q, delete_time=None, generation=3), _say)

    assert gone.quota.delete_time
    assert await books.standing("all") == (9, 0)


def _say(quota: Quota, now: datetime) -> Event:
    return events.quota_changed(quota, now)


async def test_money_is_a_budget_by_the_prices_of_the_time(books: Books) -> None:
    listed = PriceList(1, "EUR", NOON, (Price(Meter.REQUESTS, 1500, 1000), Price(Meter.ROWS, 7, 10, SERVING)), NOON)
    await books.quotas.add_prices(lambda version: replace(listed, version=version), events.prices_created, None)
    dearer = replace(listed, valid_from=NOON + timedelta(hours=1), prices=(Price(Meter.REQUESTS, 9, 1),))
    await books.quotas.add_prices(lambda version: replace(dearer, version=version), events.prices_created, None)
    await books.quota("purse", "tenant", 100, Meter.MONEY)
    entry = await books.held(10, least=10)
    books.now = NOON + timedelta(hours=2)
    (line,) = await books.settle(entry, 9)
    new = await books.held(1)

    # 10 requests at 1.5 and 10 rows at 0.7, each rounded up
    assert (entry.prices, entry.reserved.money_micros) == (1, 15 + 7)
    assert (line.prices, line.used.money_micros) == (1, 14 + 7)
    assert await books.standing("purse") == (21, 9)
    assert (new.prices, new.reserved.money_micros) == (2, 9)
    assert isinstance(await books.reserve(9, least=9), Failure)


async def test_what_nobody_settled_is_charged_in_full_when_its_time_is_over(books: Books) -> None:
    await books.quota("all", "tenant", 100)
    entry = await books.held(10, seconds=60)
    alive = await books.held(5, seconds=600)
    early = await books.entries.recover(False)
    books.now += timedelta(seconds=61)
    late = await books.entries.recover(False)
    found = await books.report.sums(Question("acme"), (), 10)

    assert (early, late) == (0, 1)
    assert (found[0].used.requests, found[0].estimated.requests) == (10, 10)
    assert await books.standing("all") == (10, 5)
    assert await books.settle(entry, 3) == [], "who comes late changes nothing"
    assert len(await books.settle(alive, 5)) == 1


async def test_who_starts_alone_charges_what_was_left_behind(books: Books) -> None:
    await books.quota("all", "tenant", 100)
    await books.held(10, seconds=600)
    await books.held(1, kind=TRAINING, seconds=600)

    assert await books.entries.recover(True) == 1
    assert await books.standing("all") == (10, 1)


async def test_a_training_that_never_came_is_given_back(books: Books) -> None:
    await books.quota("all", "tenant", 100)
    await books.held(10, kind=TRAINING, seconds=60)
    books.now += timedelta(seconds=61)

    assert await books.entries.recover(False) == 1
    assert await books.standing("all") == (0, 0)


def job(used: int) -> Entry:
    """How a trainer says that a job has ended."""
    where = ("acme", "late", "", TRAINING, "m")
    return Entry(uuid7(), *where, reserved=Amounts(), used=Amounts(cpu_milliseconds=used), reference="job-1")


async def reserved(books: Books) -> Entry:
    most = Amounts(cpu_milliseconds=50)
    where = ("acme", "late", "key:abcd1234", TRAINING, "m")
    (found,) = await books.entries.reserve([Claim(Entry(uuid7(), *where, reserved=most), most, 60)])
    assert isinstance(found, Entry)
    return found


async def test_a_training_is_charged_to_who_reserved_for_it(books: Books) -> None:
    await books.quota("cpu", "key:abcd1234", 100, Meter.CPU)
    await books.entries.bind(await reserved(books), "job-1", 60)
    underway = await books.standing("cpu")
    for _ in range(2):
        await books.entries.conclude(job(30))

    assert underway == (0, 50)
    assert await books.standing("cpu") == (30, 0)
    assert (await books.total(principal="key:abcd1234")).cpu_milliseconds == 30


async def test_a_job_that_ended_before_it_was_known_whose_it_is_is_charged_once(books: Books) -> None:
    await books.quota("cpu", "tenant", 100, Meter.CPU)
    entry = await reserved(books)
    await books.entries.conclude(job(30))
    await books.entries.bind(entry, "job-1", 60)

    assert await books.standing("cpu") == (30, 0)


async def test_a_submission_that_is_repeated_reserves_once(books: Books) -> None:
    await books.quota("cpu", "tenant", 100, Meter.CPU)
    for _ in range(2):
        await books.entries.bind(await reserved(books), "job-1", 60)

    assert await books.standing("cpu") == (0, 50)


async def test_a_job_that_outlives_its_reservation_is_charged_all_the_same(books: Books) -> None:
    await books.quota("cpu", "tenant", 100, Meter.CPU)
    await books.entries.bind(await reserved(books), "job-1", 60)
    books.now += timedelta(seconds=61)
    await books.entries.recover(False)
    given_back = await books.standing("cpu")
    await books.entries.conclude(job(30))

    assert given_back == (0, 0)
    assert await books.standing("cpu") == (30, 0)


async def test_a_job_that_never_ran_costs_nothing(books: Books) -> None:
    await books.quota("cpu", "tenant", 100, Meter.CPU)
    await books.entries.bind(await reserved(books), "job-1", 60)
    await books.entries.conclude(job(0))

    assert await books.standing("cpu") == (0, 0)
    assert await books.total() == Amounts()


async def test_what_nobody_reserved_is_added_once(books: Books) -> None:
    await books.quota("all", "tenant", 100)
    where = ("acme", "late", "key:abcd1234", SERVING, "m")
    tally = Entry(uuid7(), *where, reserved=Amounts(), used=Amounts(7, 9))
    first, again = await books.entries.settle([], [tally]), await books.entries.settle([], [tally])

    assert (len(first), again) == (1, [])
    assert await books.standing("all") == (7, 0)
    assert await books.total() == Amounts(7, 9)


async def test_sums_are_kept_apart_as_asked_and_come_in_pages(books: Books) -> None:
    for day, model, requests in ((0, "a", 1), (0, "b", 2), (1, "a", 4), (31, "a", 8)):
        books.now = NOON + timedelta(days=day)
        await books.settle(await books.held(requests, model=model), requests)
    asked = Question("acme", group_by=("model",), period=Period.MONTH)
    whole = await books.report.sums(asked, (), 10)
    first = await books.report.sums(asked, (), 2)
    rest = await books.report.sums(asked, first[-1].key, 10)
    days = await books.report.sums(Question("acme", period=Period.DAY, model="a"), (), 10)
    some = await books.report.sums(Question("acme", start=NOON, end=NOON + timedelta(days=1)), (), 10)

    assert [(one.key[0], one.key[3], one.used.requests) for one in whole] == [
        ("2026-11", "a", 5),
        ("2026-11", "b", 2),
        ("2026-12", "a", 8),
    ]
    assert [*first, *rest] == whole
    assert [(one.key[0], one.used.requests) for one in days] == [
        ("2026-11-22", 1),
        ("2026-11-23", 4),
        ("2026-12-23", 8),
    ]
    assert [(one.used.requests, one.entries) for one in some] == [(3, 2)]
    assert await books.total(principal="key:nobody00") == Amounts()
