"""Several gateways that use one ledger at the same time, one of which dies: all budgets hold, and it adds up."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from aimass.v1.gateway_events_pb2 import UsageSettled
from services.gateway.database import open_database, schema
from services.gateway.ledger import events
from services.gateway.ledger.account import Hold, Need
from services.gateway.ledger.book import Quotabook
from services.gateway.ledger.domain import Amounts, Meter, Period, Price, PriceList, Question, Quota
from services.gateway.ledger.spending import LEASE, Spending
from services.gateway.ledger.store.entries import Entries
from services.gateway.ledger.store.quotas import Quotas
from services.gateway.ledger.store.report import Report
from services.kit.auth import Scope
from services.kit.db import Database
from services.kit.errors import Code, Failure

GATEWAYS, CALLERS, CALLS = 4, 6, 20
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEYS = (("late", "key:aaaaaaaa"), ("late", "key:bbbbbbbb"), ("early", "key:cccccccc"))
# Each level in another meter, all of them too small for what is asked.
BUDGETS = (
    ("one", "key:aaaaaaaa", Meter.ROWS, 250),
    ("some", "project:late", Meter.TOKENS, 1_500),
    ("all", "tenant", Meter.REQUESTS, 300),
    ("cost", "tenant", Meter.MONEY, 16_000),
)


@dataclass
class Fleet:
    """Gateways, each with a pool of its own where the database is a server."""

    databases: list[Database]
    seconds: float = 0.0
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    over: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.entries = [Entries(one, events.usage_settled, self.clock) for one in self.databases]
        self.quotas, self.report = Quotas(self.databases[0], self.clock), Report(self.databases[0])
        self.book = Quotabook()

    def clock(self, _connection: object) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    async def begin(self) -> None:
        for name, subject, meter, amount in BUDGETS:
            made = Quota(name, "acme", subject, meter, Period.TOTAL, amount, NOW, NOW)
            await self.quotas.create(made, events.quota_changed(made, NOW), None)
        prices = (Price(Meter.REQUESTS, 50), Price(Meter.TOKENS, 1_000, per=300))

        def make(version: int) -> PriceList:
            return PriceList(version, "EUR", NOW, prices, NOW)

        await self.quotas.add_prices(make, events.prices_created, None)
        self.book.take(await self.quotas.everything())

    async def gateway(self, number: int, dies: bool) -> None:
        """Callers until all have asked, or until it is dead: nothing it holds is settled then."""
        spending = Spending(self.entries[number], self.book, f"g{number}")
        rounds = asyncio.ensure_future(spending.run())
        callers = [self.calls(spending, random.Random(100 * number + one)) for one in range(CALLERS)]
        try:
            if dies:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await asyncio.gather(*callers)
                return
            await asyncio.gather(*callers)
        finally:
            rounds.cancel()
            await asyncio.gather(rounds, return_exceptions=True)
        await spending.close()

    async def calls(self, spending: Spending, rng: random.Random) -> None:
        for _ in range(CALLS):
            (project, who), rows, tokens = rng.choice(KEYS), rng.randrange(1, 8), rng.choice([0, 0, 9, 40])
            try:
                hold = await spending.wait(Scope("acme", project), who, rng.choice("mn"), rows, tokens)
            except Failure as failure:
                self.refused[failure.code.text] += 1
                continue
            await asyncio.sleep(rng.random() / 100)
            if rng.random() < 0.1:
                hold.release()
            else:
                hold.spend()
                self.done.update({"requests": 1, "rows": rows, "tokens": tokens})

    async def watch(self) -> None:
        """Looks at the budgets all the time."""
        while True:
            for quota, balance in await self.quotas.list("acme", "", 9, False):
                if balance.spent + balance.reserved > quota.amount or balance.reserved < 0:
                    self.over.append(f"{quota.quota}: {balance}")
            await asyncio.sleep(0.01)

    async def told(self) -> list[Any]:
        """Settled lines, as events tell of them."""
        table = schema.outbox.table
        query = select(table.c.body).where(table.c.key.like("acme/%/usage/%"))
        bodies = await self.databases[0].read(lambda connection: list(connection.execute(query).scalars()))
        return [UsageSettled.FromString(body).entry for body in bodies]


@pytest_asyncio.fixture
async def fleet(db_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    near = db_url.startswith("sqlite")
    databases = [open_database(db_url, tmp_path) for _ in range(1 if near else GATEWAYS)]
    for database in databases:
        await database.start()
    found = Fleet(databases * GATEWAYS if near else databases)
    await found.begin()
    yield found
    for database in databases:
        database.close()


async def test_no_budget_of_any_level_is_overdrawn_and_the_sums_are_those_of_the_events(fleet: Fleet) -> None:
    watching = asyncio.ensure_future(fleet.watch())
    async with asyncio.timeout(300):
        await asyncio.gather(*(fleet.gateway(number, dies=number == 0) for number in range(GATEWAYS)))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    fleet.seconds += 2 * LEASE
    await fleet.entries[1].recover(False)

    lines = await fleet.told()
    (total,) = await fleet.report.sums(Question("acme"), (), 9)
    charged = Amounts(*(sum(getattr(one.used, meter) for one in lines) for meter in Amounts._fields))
    assert fleet.over == []
    assert len({one.entry for one in lines}) == len(lines) == total.entries
    assert total.used == charged
    assert fleet.refused["quota_exceeded"] > 0
    for quota, balance in await fleet.quotas.list("acme", "", 9, False):
        kept = [one for one in lines if quota.subject in ("tenant", f"project:{one.project}", one.principal)]
        assert balance.spent == sum(getattr(one.used, quota.meter.value) for one in kept) <= quota.amount
        assert balance.reserved == 0
    for meter, used in fleet.done.items():
        assert used <= getattr(total.used, meter)
        assert getattr(total.used, meter) - getattr(total.estimated, meter) <= used


@pytest.mark.parametrize("first", ["who has room", "who has none"])
async def test_nobody_waits_for_what_another_needs_beside_him(fleet: Fleet, first: str) -> None:
    spending = Spending(fleet.entries[0], fleet.book, "g0")
    rounds = asyncio.ensure_future(spending.run())
    room, none = Need(5), Need(1, 2_000)  # neither is the larger: there are 1,500 tokens
    needs = (room, none) if first == "who has room" else (none, room)
    where = Scope("acme", "late"), "key:bbbbbbbb", "m"
    found = await asyncio.gather(*(spending.wait(*where, *need) for need in needs), return_exceptions=True)
    rounds.cancel()
    await asyncio.gather(rounds, return_exceptions=True)
    answers: dict[Need, Any] = dict(zip(needs, found, strict=True))

    assert isinstance(answers[room], Hold), answers[room]
    assert getattr(answers[none], "code", None) is Code.QUOTA_EXCEEDED, answers[none]
    answers[room].spend()
    await spending.close()
