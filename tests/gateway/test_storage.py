"""What is kept: charged once for each hour, however often it is said; no more is taken in when a budget is spent."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import select

from aimass import invoice
from aimass.v1.gateway_events_pb2 import UsageSettled
from aimass.v1.registry_events_pb2 import ArtifactsStored
from aimass.v1.storage_pb2 import KeptBytes
from services.gateway.database import open_database, schema
from services.gateway.ledger import events
from services.gateway.ledger.book import Quotabook
from services.gateway.ledger.domain import Amounts, Meter, Period, Price, PriceList, Question, Sum
from services.gateway.ledger.storage import Storage
from services.gateway.ledger.store.tables import balance
from services.kit import tasks
from services.kit.auth import Principal, Scope
from services.kit.bus import Event
from services.kit.errors import Failure
from services.kit.inbox import Delivery
from tests.gateway.serving import DOORS, Serving
from tests.gateway.test_ledger import NOON, Books
from tests.support.house import house, until

SCOPE, MIB = Scope("acme", "late"), 2**20
SIZE = 2 * MIB + 5  # three mebibytes, rounded up


class Keeping:
    """A gateway that hears of what is kept."""

    def __init__(self, books: Books) -> None:
        self.books, self.book = books, Quotabook()
        self.storage = Storage(books.entries, self.book, "g1")

    async def quota(
        self, subject: str, amount: int, meter: Meter = Meter.STORAGE, period: Period = Period.TOTAL
    ) -> None:
        await self.books.quota("kept", subject, amount, meter, period=period)
        self.book.take(await self.books.quotas.everything())

    async def price(self, price: Price, version: int = 1) -> None:
        listed = PriceList(version, "EUR", self.books.now, (price,), self.books.now)
        await self.books.quotas.add_prices(lambda version: listed, events.prices_created, None)

    async def hear(self, size: int, hour: datetime = NOON, what: str = "artifacts", scope: Scope = SCOPE) -> None:
        time = Timestamp()
        time.FromDatetime(hour)
        message = ArtifactsStored(kept=KeptBytes(what=what, bytes=size, hour=time), generation=1)
        event = Event.of(message, scope, "storage", what, "registry", self.books.now)
        await self.storage.stored(message, Delivery(event, schema.inbox, lambda: self.books.now))

    async def admit(self, project: str = "late") -> None:
        await self.storage.admit(Principal(Scope("acme", project), "key:abcd1234", ("*",)))

    async def said(self) -> list[UsageSettled]:
        """The events of lines."""
        table = schema.outbox.table
        query = select(table.c.body).where(table.c.key.like("acme/late/usage/%"))
        bodies = await self.books.database.read(lambda c: c.execute(query).scalars().all())
        return [UsageSettled.FromString(body) for body in bodies]

    async def used(self) -> list[Sum]:
        return await self.books.report.sums(Question("acme", group_by=("kind", "project", "principal")), (), 10)


@pytest_asyncio.fixture
async def keeping(db_url: str, tmp_path: Path) -> AsyncIterator[Keeping]:
    database = open_database(db_url, tmp_path)
    await database.start()
    yield Keeping(Books(database))
    database.close()


async def test_each_hour_is_charged_once_whoever_says_it_how_often(keeping: Keeping) -> None:
    await keeping.quota("project:late", 100)
    for hour in (NOON, NOON, NOON + timedelta(hours=1)):
        await keeping.hear(SIZE, hour)

    assert await keeping.books.standing("kept") == (6, 0)
    (line,) = await keeping.used()
    assert (line.key, line.used, line.entries) == (("", "late", "", "", "storage"), Amounts(storage_mib_hours=6), 2)


async def test_an_hour_counts_in_its_own_month_however_late_it_is_heard(keeping: Keeping) -> None:
    hour = datetime(2026, 11, 30, 23, tzinfo=UTC)
    await keeping.quota("project:late", 100, period=Period.MONTH)
    await keeping.price(Price(Meter.STORAGE, 2, 1, "storage"))
    keeping.books.now = hour + timedelta(hours=2)
    await keeping.price(Price(Meter.STORAGE, 5), 2)
    await keeping.hear(SIZE, hour)
    december = await keeping.books.standing("kept")
    (line,) = await keeping.books.report.sums(Question("acme", period=Period.MONTH, group_by=("kind",)), (), 10)
    keeping.books.now = hour

    assert (december, await keeping.books.standing("kept")) == ((0, 0), (3, 0))
    assert (line.key[0], line.used) == ("2026-11", Amounts(storage_mib_hours=3, money_micros=6))
    assert [said.entry.create_time.ToDatetime(UTC) for said in await keeping.said()] == [hour], "an invoice goes by it"


async def test_an_hour_of_a_clock_that_is_ahead_counts_now(keeping: Keeping) -> None:
    await keeping.quota("project:late", 100, period=Period.DAY)
    await keeping.hear(SIZE, NOON + timedelta(days=1))

    assert await keeping.books.standing("kept") == (3, 0)


async def test_what_is_spent_is_kept_with_the_first_hour_so_that_nobody_sums_up_the_ledger_for_a_chunk(
    keeping: Keeping,
) -> None:
    await keeping.quota("project:late", 100)
    await keeping.hear(SIZE)
    await keeping.hear(SIZE, NOON + timedelta(hours=1))
    kept = await keeping.books.database.read(lambda c: c.execute(select(balance.c.spent)).scalars().all())

    assert kept == [6]


async def test_each_store_counts_for_itself(keeping: Keeping) -> None:
    await keeping.quota("tenant", 100)
    for what in ("artifacts", "uploads", "tables"):
        await keeping.hear(MIB, what=what)
    await keeping.hear(MIB, scope=Scope("acme", "early"))
    await keeping.hear(MIB, scope=Scope("umbra"))

    assert await keeping.books.standing("kept") == (4, 0)


async def test_nothing_more_is_taken_in_when_a_budget_is_spent_and_what_is_there_goes_on_counting(
    keeping: Keeping,
) -> None:
    await keeping.quota("project:late", 4)
    await keeping.admit()
    await keeping.hear(SIZE)
    await keeping.admit()
    await keeping.hear(SIZE, NOON + timedelta(hours=1))

    with pytest.raises(Failure, match="quota kept of project late: 0 of 4 storage_mib_hours"):
        await keeping.admit()
    await keeping.admit("early")
    assert await keeping.books.standing("kept") == (6, 0)


async def test_money_that_is_spent_takes_nothing_in_where_keeping_has_a_price(keeping: Keeping) -> None:
    await keeping.price(Price(Meter.STORAGE, 2, 1, "storage"))
    await keeping.quota("project:late", 7, Meter.MONEY)
    await keeping.hear(SIZE)

    with pytest.raises(Failure, match=r"quota kept of project late: 1 of 7 money_micros .*, 2 are needed"):
        await keeping.admit()


async def test_money_that_is_spent_refuses_nothing_that_costs_nothing(keeping: Keeping) -> None:
    await keeping.quota("project:late", 0, Meter.MONEY)
    await keeping.admit()


async def test_a_budget_of_the_caller_is_not_asked_for_what_is_of_his_project(keeping: Keeping) -> None:
    await keeping.price(Price(Meter.STORAGE, 2))
    await keeping.quota("key:abcd1234", 0, Meter.MONEY)
    await keeping.admit()


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> Path:
    """Where a start has left an artifact of a little more than two mebibytes."""
    async with house(tmp_path, "gateway", "registry", "data", **DOORS) as running:
        app = Serving(running)
        assert (await uploaded(app, b"x" * SIZE)).status_code == 200
    return tmp_path


async def ask(app: Serving, path: str, **wanted: Any) -> Any:
    async with app.client() as client:
        return await client.post(path, json=wanted)


async def uploaded(app: Serving, data: bytes) -> Any:
    """The last answer of an upload."""
    upload = (await ask(app, "/v1/artifacts/uploads")).json()["upload"]
    path, octets = f"/v1/artifacts/uploads/{upload}", {"content-type": "application/octet-stream"}
    async with app.client() as client:
        await client.put(path, content=data, headers=octets)
    return await ask(app, f"{path}:commit", digest=f"sha256:{hashlib.sha256(data).hexdigest()}")


async def stored(app: Serving) -> tuple[int, int]:
    """Mebibyte hours of the ledger, and lines."""
    rows = (await app.get("/v1/usage?kind=storage")).json()["rows"]
    return (int(rows[0]["used"]["storage_mib_hours"]), int(rows[0]["entries"])) if rows else (0, 0)


async def charged_for(app: Serving) -> bool:
    return (await stored(app))[1] > 0


async def test_what_a_project_keeps_is_charged_said_and_refused_at_the_doors(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_LOOK", 0.05)
    for _ in range(2):  # a process that starts again measures again
        async with house(home, "gateway", "registry", "data", **DOORS) as running:
            app = Serving(running)
            await until(partial(charged_for, app))
            await running.heard(ArtifactsStored)
    async with house(home, "gateway", "registry", "data", **DOORS) as running:
        app = Serving(running)
        charged = await stored(app)
        what = {"meter": "METER_STORAGE_MIB_HOURS", "period": "PERIOD_MONTH", "amount": charged[0]}
        alone = await ask(app, "/v1/quotas", quota="hers", subject=f"key:{app.key[4:12]}", **what)
        made = await ask(app, "/v1/quotas", quota="full", subject="project:default", **what)
        refused = [await ask(app, f"/v1/{where}") for where in ("artifacts/uploads", "uploads")]
        seen = await app.get("/v1/models")
        events = [one for one in await running.heard(UsageSettled, charged[1]) if one.entry.kind == "storage"]

    assert charged[0] == 3 * charged[1], "each hour once"
    assert charged[1] <= 2, "the test took less than an hour"
    assert alone.json()["violations"][0]["pointer"] == "/subject"
    assert made.json()["spent"] == str(charged[0])
    assert [answer.status_code for answer in refused] == [429, 429]
    assert refused[0].json()["code"] == "quota_exceeded"
    assert "quota full of project default: 0 of" in refused[0].json()["detail"]
    assert seen.status_code == 200
    assert sum(one.entry.used.storage_mib_hours for one in events) == charged[0]


def test_an_invoice_has_what_was_kept() -> None:
    month = f"{datetime.now(UTC):%Y-%m}"
    event = {"entry.entry": "1", "entry.create_time": f"{month}-03T00:00:00Z", "entry.kind": "storage"}
    (item,) = invoice.rebuild([event | {"entry.used.storage_mib_hours": "7"}], month)

    assert (item.kind, item.storage_mib_hours) == ("storage", 7)
