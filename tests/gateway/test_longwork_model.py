"""Long work under crashes, lost answers and repeated events: never above a budget, and sums equal to the events."""

import asyncio
import itertools
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from aimass.v1.data_events_pb2 import Work, WorkEnded
from aimass.v1.extractions_pb2 import RunExtractionRequest
from aimass.v1.gateway_events_pb2 import UsageSettled
from aimass.v1.operations_pb2 import Operation
from services.gateway.database import open_database, schema
from services.gateway.ledger import events
from services.gateway.ledger.book import Quotabook
from services.gateway.ledger.domain import Meter, Period, Price, PriceList, Question, Quota, State
from services.gateway.ledger.longwork import Carry, LongWork
from services.gateway.ledger.store.entries import Entries
from services.gateway.ledger.store.quotas import Quotas
from services.gateway.ledger.store.report import Report
from services.gateway.ledger.store.tables import ledger
from services.kit import contract
from services.kit.auth import Principal, Scope
from services.kit.bus import Event
from services.kit.errors import Code, Failure
from services.kit.inbox import Delivery

BEGIN, SCOPE = datetime(2026, 11, 22, tzinfo=UTC), Scope("acme", "late")
WHO = Principal(SCOPE, "key:abcd1234", ("*",))
EXTRACT = contract.all_methods()["/aimass.v1.Extractions/RunExtraction"]
PRICE = 3  # millionths for a millisecond


class Killed(BaseException):
    """The gateway dies: nothing is done of what comes after the call."""


@dataclass
class Job:
    """Work at the data service, which ends it with less than it was given."""

    operation: str
    most: int
    used: int = -1


class LongWorkMachine(RuleBasedStateMachine):
    """A data service that begins and ends work, and a gateway that may die or miss the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.runner, self.folder = asyncio.Runner(), tempfile.TemporaryDirectory()
        self.database = open_database("", Path(self.folder.name))
        self.run(self.database.start())
        self.seconds, self.names = 0.0, itertools.count()
        clock = lambda connection: BEGIN + timedelta(seconds=self.seconds)  # noqa: E731
        self.entries = Entries(self.database, events.usage_settled, clock)
        self.quotas, self.report = Quotas(self.database, clock), Report(self.database)
        self.work = LongWork(self.entries, Quotabook(), "g")
        self.jobs: list[Job] = []
        self.said: list[Job] = []
        # What work used for which nothing was reserved any more when it ended, or whose caller was never answered.
        self.over = 0

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize(cpu=st.integers(0, 200_000), money=st.integers(0, 600_000), priced=st.booleans())
    def begin(self, cpu: int, money: int, priced: bool) -> None:
        if priced:
            prices = (Price(Meter.CPU, PRICE),)
            made = PriceList(1, "EUR", BEGIN, prices, BEGIN)
            self.run(self.quotas.add_prices(lambda version: made, events.prices_created, None))
        for name, subject, meter, amount in (("cpu", WHO.id, Meter.CPU, cpu), ("cost", "tenant", Meter.MONEY, money)):
            quota = Quota(name, "acme", subject, meter, Period.TOTAL, amount, BEGIN, BEGIN)
            self.run(self.quotas.create(quota, events.quota_changed(quota, BEGIN), None))

    @rule(
        seconds=st.integers(1, 60),
        end=st.sampled_from(["well", "refused", "lost", "died", "early"]),
        share=st.floats(0, 1),
    )
    def ask(self, seconds: int, end: str, share: float) -> None:
        job = Job(f"data-{next(self.names)}", seconds * 1000)

        async def send(carry: Carry) -> tuple[bytes, Any]:
            if end == "refused":
                raise Failure(Code.IN_PROGRESS, "it is running")
            self.jobs.append(job)
            if end == "early":
                await self.end_of(job, share)  # before its caller knows of it
            if end == "lost":
                raise Failure(Code.UNAVAILABLE, "the answer was lost")
            if end == "died":
                raise Killed
            return Operation(operation=job.operation).SerializeToString(), ()

        request = RunExtractionRequest(rule="r", cpu_seconds=seconds)
        try:
            self.run(self.work.around(EXTRACT, request, WHO, send))
        except (Failure, Killed) as error:
            assert isinstance(error, Killed) or error.code.text in ("quota_exceeded", "in_progress", "unavailable")

    async def end_of(self, job: Job, share: float) -> None:
        job.used = int(job.most * share)
        self.jobs.remove(job)
        self.said.append(job)
        await self.hear(job)

    async def hear(self, job: Job) -> None:
        work = Work(operation=job.operation, kind="extraction", principal=WHO.id, cpu_milliseconds=job.used)
        message, now = WorkEnded(work=work, generation=1), BEGIN + timedelta(seconds=self.seconds)
        event = Event.of(message, SCOPE, "work", job.operation, "data", now)
        await self.work.ended(message, Delivery(event, schema.inbox, lambda: now))

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 99), share=st.floats(0, 1))
    def end(self, which: int, share: float) -> None:
        self.finish(self.jobs[which % len(self.jobs)], share)

    def finish(self, job: Job, share: float) -> None:
        covered = self.covered(job)
        self.run(self.end_of(job, share))
        self.over += 0 if covered else job.used

    @precondition(lambda self: self.said)
    @rule(which=st.integers(0, 99))
    def hear_again(self, which: int) -> None:
        lines = self.lines()
        self.run(self.hear(self.said[which % len(self.said)]))
        assert self.lines() == lines

    @rule(seconds=st.sampled_from([1.0, 301.0, 8 * 24 * 3600.0]))
    def wait(self, seconds: float) -> None:
        """Reservations whose work nobody knows, or that waited for a week, end."""
        self.seconds += seconds
        self.run(self.entries.recover(False))

    def lines(self) -> Any:
        return self.run(self.report.sums(Question("acme"), (), 1))

    def told(self) -> list[Any]:
        """Settled lines as the events tell of them."""
        table = schema.outbox.table
        query = select(table.c.body).where(table.c.key.like("acme/late/usage/%"))
        bodies = self.run(self.database.read(lambda connection: list(connection.execute(query).scalars())))
        found = [UsageSettled.FromString(body).entry for body in bodies]
        assert len({one.entry for one in found}) == len(found), "a line is said once"
        return found

    @invariant()
    def it_adds_up(self) -> None:
        """What ended is charged once, as the events say; above a budget is only what outlived its reservation."""
        events, found = self.told(), self.lines()
        used = sum(one.used.cpu_milliseconds for one in events)
        assert used == (found[0].used.cpu_milliseconds if found else 0)
        assert used == sum(job.used for job in self.said)
        for quota, balance in self.run(self.quotas.list("acme", "", 9, False)):
            each = 1 if quota.meter is Meter.CPU else PRICE
            assert balance.reserved >= 0
            assert balance.spent == sum(getattr(one.used, quota.meter.value) for one in events)
            assert balance.spent + balance.reserved <= quota.amount + self.over * each

    def covered(self, job: Job) -> bool:
        """Whether something is reserved for it."""
        query = select(ledger.c.state).where(ledger.c.reference == job.operation)
        found = self.run(self.database.read(lambda connection: connection.execute(query).scalar()))
        return bool(found == State.RESERVED.value)

    def teardown(self) -> None:
        try:
            for job in list(self.jobs):
                self.finish(job, 1.0)
            self.wait(8 * 24 * 3600.0)
            for _, balance in self.run(self.quotas.list("acme", "", 9, False)):
                assert balance.reserved == 0
            self.it_adds_up()
        finally:
            self.database.close()
            self.runner.close()
            self.folder.cleanup()


TestLongWork = LongWorkMachine.TestCase
TestLongWork.settings = settings(
    max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
