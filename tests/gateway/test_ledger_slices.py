"""How large slices of the ledger are: each asks the database once, and what is scarce is left for others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest_asyncio

from services.gateway.database import open_database
from services.gateway.ledger import events
from services.gateway.ledger.book import Quotabook
from services.gateway.ledger.domain import SERVING, Amounts, Claim, Entry, Meter, Period, Price, PriceList, Quota
from services.gateway.ledger.spending import Spending
from services.gateway.ledger.store.entries import Entries
from services.gateway.ledger.store.quotas import Quotas
from services.kit.auth import Scope
from services.kit.db import Database
from services.kit.errors import Failure
from services.kit.timestamps import uuid7

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
WHO, SCOPE = "key:abcd1234", Scope("acme", "late")
LARGE = Amounts(16, 16_000, tokens=160_000)


class Ledger:
    """A ledger that counts how often slices are asked for, and one gateway that spends them on a clock of its own."""

    def __init__(self, database: Database) -> None:
        self.seconds, self.asked = 0.0, 0
        self.entries = Entries(database, events.usage_settled, lambda connection: NOON)
        self.quotas, self.book = Quotas(database, lambda connection: NOON), Quotabook()
        self.spending = Spending(self, self.book, "g", lambda: self.seconds)

    async def reserve(self, claims: Sequence[Claim]) -> list[Entry | Failure]:
        self.asked += 1
        return await self.entries.reserve(claims)

    async def settle(self, used: Sequence[tuple[Entry, Amounts]], tallies: Sequence[Entry]) -> list[Entry]:
        return await self.entries.settle(used, tallies)

    async def quota(self, meter: Meter, amount: int) -> None:
        made = Quota(meter.value, "acme", WHO, meter, Period.TOTAL, amount, NOON, NOON)
        await self.quotas.create(made, events.quota_changed(made, NOON), None)
        self.book.take([made])

    async def granted(self, wanted: Amounts, least: Amounts) -> Amounts:
        entry = Entry(uuid7(), "acme", "late", WHO, SERVING, "m", reserved=wanted)
        (found,) = await self.entries.reserve([Claim(entry, least, 60)])
        assert isinstance(found, Entry), found
        return found.reserved

    async def use(self, rows: int, tokens: int) -> None:
        """One request, from beginning to end, in a hundredth of a second."""
        asked = asyncio.ensure_future(self.spending.wait(SCOPE, WHO, "m", rows, tokens))
        await asyncio.sleep(0)
        while not asked.done():
            await self.spending.reserve()
            await asyncio.sleep(0)
        (await asked).spend()
        await self.spending.reserve()
        self.seconds += 0.01


@pytest_asyncio.fixture
async def ledger(db_url: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    database = open_database(db_url, tmp_path)
    await database.start()
    yield Ledger(database)
    database.close()


async def test_one_scarce_meter_leaves_the_others_as_they_are(ledger: Ledger) -> None:
    await ledger.quota(Meter.TOKENS, 10_000)
    await ledger.quota(Meter.ROWS, 10**6)

    assert await ledger.granted(LARGE, Amounts(1, 1, tokens=1)) == Amounts(16, 16_000, tokens=1250)


async def test_a_meter_of_which_no_less_would_do_does_not_keep_another_from_falling(ledger: Ledger) -> None:
    await ledger.quota(Meter.TOKENS, 10_000)
    await ledger.quota(Meter.ROWS, 10_000)

    assert await ledger.granted(LARGE, Amounts(1, 1, tokens=9_000)) == Amounts(16, 1000, tokens=9_000)


async def test_scarce_money_takes_less_of_what_costs_some(ledger: Ledger) -> None:
    prices = (Price(Meter.TOKENS, 1), Price(Meter.ROWS, 1, kind="training"))
    await ledger.quotas.add_prices(
        lambda version: PriceList(version, "EUR", NOON, prices, NOON), events.prices_created, None
    )
    await ledger.quota(Meter.MONEY, 10_000)

    assert await ledger.granted(LARGE, Amounts(1, 1)) == Amounts(16, 16_000, money_micros=1250, tokens=1250)


async def test_a_busy_caller_with_few_tokens_left_asks_seldom_after_one_request_with_many(ledger: Ledger) -> None:
    await ledger.quota(Meter.TOKENS, 20_000)
    await ledger.quota(Meter.ROWS, 30_000)
    await ledger.use(10_000, 9_000)
    before = ledger.asked
    for _ in range(400):
        await ledger.use(1, 1)

    assert ledger.asked - before <= 30  # slices of 16 requests and more, not of one
