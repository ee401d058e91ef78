"""The ledger under crashes, replays and several gateways: never above a budget, and sums equal to the events."""

import asyncio
import itertools
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from aimass.v1.gateway_events_pb2 import UsageSettled
from services.gateway.database import open_database, schema
from services.gateway.ledger import events
from services.gateway.ledger.account import Hold
from services.gateway.ledger.book import Quotabook
from services.gateway.ledger.domain import Amounts, Claim, Entry, Meter, Period, Question, Quota
from services.gateway.ledger.spending import LEASE, Spending
from services.gateway.ledger.store.entries import Entries
from services.gateway.ledger.store.quotas import Quotas
from services.gateway.ledger.store.report import Report
from services.kit.auth import Scope
from services.kit.errors import Failure, Unavailable

BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
WHO, SCOPE = "key:abcd1234", Scope("acme", "late")
MODELS = ("m", "n")


class Line:
    """One gateway's way to the ledger: answers may be lost, after what was asked has been done or before."""

    def __init__(self, entries: Entries) -> None:
        self._entries, self.cut, self.loses = entries, False, False

    async def _cross(self, work: Any) -> Any:
        if self.cut:
            work.close()
            raise Unavailable("the database is away")
        found = await work
        if self.loses:
            raise Unavailable("the answer was lost")
        return found

    async def reserve(self, claims: Sequence[Claim]) -> list[Entry | Failure]:
        found: list[Entry | Failure] = await self._cross(self._entries.reserve(claims))
        return found

    async def settle(self, used: Sequence[tuple[Entry, Amounts]], tallies: Sequence[Entry]) -> list[Entry]:
        found: list[Entry] = await self._cross(self._entries.settle(used, tallies))
        return found


class LedgerMachine(RuleBasedStateMachine):
    """Gateways that use, end, settle, lose their way and die, on one database and one clock."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.database = open_database("", Path(self.folder.name))
        self.run(self.database.start())
        self.seconds, self.names = 0.0, itertools.count()
        clock = lambda connection: BEGIN + timedelta(seconds=self.seconds)  # noqa: E731
        self.entries = Entries(self.database, events.usage_settled, clock)
        self.quotas, self.report = Quotas(self.database, clock), Report(self.database)
        self.book = Quotabook()
        self.gateways: list[tuple[Spending, Line]] = []
        self.holds: list[tuple[Spending, Hold]] = []
        # What really was used: by requests that came to something, or whose gateway died before they ended.
        self.done = self.lost = 0
        self.settled: list[tuple[Entry, Amounts]] = []

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize(
        amounts=st.tuples(st.integers(0, 60), st.integers(0, 200), st.integers(0, 900)), count=st.integers(1, 3)
    )
    def begin(self, amounts: tuple[int, int, int], count: int) -> None:
        self.limits = dict(zip(("all", "rows", "tokens"), amounts, strict=True))
        levels = ("all", "tenant", Meter.REQUESTS), ("rows", WHO, Meter.ROWS), ("tokens", "project:late", Meter.TOKENS)
        for name, subject, meter in levels:
            made = Quota(name, "acme", subject, meter, Period.TOTAL, self.limits[name], BEGIN, BEGIN)
            self.run(self.quotas.create(made, events.quota_changed(made, BEGIN), None))
        self.book.take(self.run(self.quotas.everything()))
        for _ in range(count):
            self.gateways.append(self.gateway())

    def gateway(self) -> tuple[Spending, Line]:
        line = Line(self.entries)
        return Spending(line, self.book, f"g{next(self.names)}", lambda: self.seconds), line

    def pick(self, number: int) -> tuple[Spending, Line]:
        return self.gateways[number % len(self.gateways)]

    @rule(
        number=st.integers(0, 2),
        model=st.sampled_from(MODELS),
        rows=st.integers(1, 9),
        tokens=st.sampled_from([0, 7, 90]),
    )
    def use(self, number: int, model: str, rows: int, tokens: int) -> None:
        spending, _ = self.pick(number)

        async def ask() -> Hold:
            asked = asyncio.ensure_future(spending.wait(SCOPE, WHO, model, rows, tokens))
            await asyncio.sleep(0)
            while not asked.done():
                await spending.reserve()
                await asyncio.sleep(0)
            return await asked

        try:
            self.holds.append((spending, self.run(ask())))
        except Failure as failure:
            assert failure.code.text in ("quota_exceeded", "unavailable")

    @precondition(lambda self: self.holds)
    @rule(which=st.integers(0, 99), well=st.booleans())
    def end(self, which: int, well: bool) -> None:
        _, hold = self.holds.pop(which % len(self.holds))
        self.done += well
        hold.spend() if well else hold.release()

    @rule(number=st.integers(0, 2))
    def sweep(self, number: int) -> None:
        self.run(self.pick(number)[0].sweep())

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, LEASE]))
    def wait(self, seconds: float) -> None:
        if seconds == LEASE:  # longer than any request takes
            while self.holds:
                self.end(0, True)
        self.seconds += seconds

    @rule(number=st.integers(0, 2), cut=st.booleans(), loses=st.booleans())
    def disturb(self, number: int, cut: bool, loses: bool) -> None:
        line = self.pick(number)[1]
        line.cut, line.loses = cut, loses

    @rule(number=st.integers(0, 2))
    def crash(self, number: int) -> None:
        """Kill -9: nobody knows what it did; another one takes its place."""
        dead = self.pick(number)
        self.lost += sum(spending is dead[0] for spending, _ in self.holds)
        self.holds = [(spending, hold) for spending, hold in self.holds if spending is not dead[0]]
        self.gateways[self.gateways.index(dead)] = self.gateway()

    @rule()
    def recover(self) -> None:
        self.run(self.entries.recover(False))

    @rule(requests=st.integers(1, 9))
    def settle_twice(self, requests: int) -> None:
        """Whoever repeats what is settled, or says something else of it, changes nothing."""
        lines = self.run(self.report.sums(Question("acme"), (), 1))
        told = self.told()
        if told:
            one = next(iter(told.values()))
            entry = Entry(one.entry, "acme", "late", WHO, "serving", one.model, reserved=Amounts())
            assert self.run(self.entries.settle([(entry, Amounts(requests, requests))])) == []
        assert self.run(self.report.sums(Question("acme"), (), 1)) == lines

    def told(self) -> dict[str, Any]:
        """Settled lines as the events tell of them."""
        table = schema.outbox.table
        query = select(table.c.body).where(table.c.key.like("acme/late/usage/%"))
        bodies = self.run(self.database.read(lambda connection: list(connection.execute(query).scalars())))
        found = [UsageSettled.FromString(body).entry for body in bodies]
        assert len({one.entry for one in found}) == len(found), "a line is said once"
        return {one.entry: one for one in found}

    @invariant()
    def it_adds_up(self) -> None:
        """No budget is overdrawn, and the ledger is the sum of its events."""
        if not self.gateways:
            return
        told, found = self.told().values(), self.run(self.report.sums(Question("acme"), (), 1))
        used = found[0].used if found else Amounts()
        assert used.requests == sum(one.used.requests for one in told)
        assert used.rows == sum(one.used.rows for one in told)
        assert used.tokens == sum(one.used.tokens for one in told)
        for quota, balance in self.run(self.quotas.list("acme", "", 9, False)):
            assert balance.spent == used.of(quota.meter)
            assert balance.reserved >= 0
            assert balance.spent + balance.reserved <= quota.amount

    def teardown(self) -> None:
        """In the end everything that was used is charged, and nothing is reserved any more."""
        try:
            if self.gateways:
                self.settle_all()
        finally:
            self.database.close()
            self.runner.close()
            self.folder.cleanup()

    def settle_all(self) -> None:
        while self.holds:
            self.end(0, True)
        for spending, line in self.gateways:
            line.cut = line.loses = False
            self.run(spending.close())
        self.seconds += 2 * LEASE
        self.run(self.entries.recover(False))
        balance = self.run(self.quotas.get("acme", "all")).balance
        estimated = self.run(self.report.sums(Question("acme"), (), 1))
        assert balance.reserved == 0
        assert self.done <= balance.spent <= self.limits["all"]
        assert balance.spent - (estimated[0].estimated.requests if estimated else 0) <= self.done
        self.it_adds_up()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=10, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
