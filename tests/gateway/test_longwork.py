"""Work on data in the ledger: reserved before it is asked for, charged with what its end says, whatever comes first."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aimass.v1.data_events_pb2 import Work, WorkEnded
from aimass.v1.datasets_pb2 import QueryDataSetsRequest, QueryDataSetsResponse, QueryTable
from aimass.v1.extractions_pb2 import RunExtractionRequest
from aimass.v1.jobs_pb2 import JobSpec, SubmitJobRequest
from aimass.v1.operations_pb2 import Operation
from services.gateway.database import open_database, schema
from services.gateway.ledger.book import Quotabook
from services.gateway.ledger.domain import Amounts, Meter, Question, Sum
from services.gateway.ledger.longwork import Carry, LongWork
from services.kit import contract
from services.kit.auth import Principal, Scope
from services.kit.bus import Event
from services.kit.errors import Code, Failure
from services.kit.inbox import Delivery
from tests.gateway.test_ledger import Books

WHO, NAME = "key:abcd1234", "data-0199"
CALLER = Principal(Scope("acme", "late"), WHO, ("*",))
EXTRACT = contract.all_methods()["/aimass.v1.Extractions/RunExtraction"]
SUBMIT = contract.all_methods()["/aimass.v1.Jobs/SubmitJob"]


class Asking:
    """A caller of a gateway, and the service behind it."""

    def __init__(self, books: Books) -> None:
        self.books, self.refuses = books, list[Failure]()
        self.work = LongWork(books.entries, Quotabook(), "g1")

    async def send(self, carry: Carry) -> tuple[bytes, Any]:
        if self.refuses:
            raise self.refuses.pop()
        return Operation(operation=NAME, resource="rules/flights").SerializeToString(), ()

    async def ask(self, seconds: int = 0) -> None:
        await self.work.around(EXTRACT, RunExtractionRequest(rule="flights", cpu_seconds=seconds), CALLER, self.send)

    async def end(self, milliseconds: int) -> None:
        """The event of its end, as the data service says it."""
        message, now = WorkEnded(work=self.done(milliseconds), generation=1), self.books.now
        event = Event.of(message, CALLER.scope, "work", NAME, "data", now)
        await self.work.ended(message, Delivery(event, schema.inbox, lambda: now))

    def done(self, milliseconds: int) -> Work:
        return Work(operation=NAME, kind="extraction", principal=WHO, cpu_milliseconds=milliseconds)

    async def used(self) -> list[Sum]:
        return await self.books.report.sums(Question("acme", group_by=("principal", "kind", "model")), (), 10)


@pytest_asyncio.fixture
async def asking(db_url: str, tmp_path: Path) -> AsyncIterator[Asking]:
    database = open_database(db_url, tmp_path)
    await database.start()
    books = Books(database)
    await books.quota("cpu", WHO, 100_000, Meter.CPU)
    yield Asking(books)
    database.close()


async def test_what_work_may_use_is_reserved_and_what_it_used_is_charged(asking: Asking) -> None:
    await asking.ask(60)
    underway = await asking.books.standing("cpu")
    for _ in range(2):  # an event may come twice
        await asking.end(4_500)

    assert underway == (0, 60_000)
    assert await asking.books.standing("cpu") == (4_500, 0)
    (line,) = await asking.used()
    assert line.key == ("", "", WHO, "", "extraction")
    assert (line.used, line.entries) == (Amounts(cpu_milliseconds=4_500), 1)


async def test_work_that_may_use_more_than_is_left_is_refused_by_name(asking: Asking) -> None:
    await asking.ask(60)
    with pytest.raises(Failure) as caught:
        await asking.ask(60)

    assert caught.value.code is Code.QUOTA_EXCEEDED
    assert caught.value.detail == (
        "quota cpu of key abcd1234: 40000 of 100000 cpu_milliseconds are neither spent nor reserved, 60000 are needed"
    )


async def test_work_that_says_nothing_reserves_what_the_contract_says(asking: Asking) -> None:
    with pytest.raises(Failure, match="21600000 are needed"):
        await asking.ask()


async def test_what_the_service_refuses_is_given_back(asking: Asking) -> None:
    asking.refuses = [Failure(Code.IN_PROGRESS, "it is running")]
    with pytest.raises(Failure, match="it is running"):
        await asking.ask(60)

    assert await asking.books.standing("cpu") == (0, 0)


async def test_what_may_have_begun_all_the_same_is_given_back_when_nobody_hears_of_it(asking: Asking) -> None:
    asking.refuses = [Failure(Code.UNAVAILABLE, "the answer was lost")]
    with pytest.raises(Failure, match="the answer was lost"):
        await asking.ask(60)
    waiting = await asking.books.standing("cpu")
    asking.books.now += timedelta(seconds=301)
    await asking.books.entries.recover(False)

    assert (waiting, await asking.books.standing("cpu")) == ((0, 60_000), (0, 0))


async def test_work_that_ends_before_its_caller_hears_of_it_is_charged_to_him_once(asking: Asking) -> None:
    async def send(carry: Carry) -> tuple[bytes, Any]:
        await asking.end(4_500)
        return await asking.send(carry)

    await asking.work.around(EXTRACT, RunExtractionRequest(rule="flights", cpu_seconds=60), CALLER, send)

    assert await asking.books.standing("cpu") == (4_500, 0)
    assert [(line.key[2], line.entries) for line in await asking.used()] == [(WHO, 1)]


async def test_work_that_nobody_reserved_for_is_charged_to_who_asked_for_it(asking: Asking) -> None:
    await asking.end(4_500)

    assert await asking.books.standing("cpu") == (4_500, 0)


async def test_work_that_came_to_nothing_costs_nothing(asking: Asking) -> None:
    await asking.ask(60)
    await asking.end(0)

    assert await asking.books.standing("cpu") == (0, 0)
    assert await asking.used() == []


async def test_a_repeat_of_the_call_reserves_once(asking: Asking) -> None:
    for _ in range(2):
        await asking.ask(40)

    assert await asking.books.standing("cpu") == (0, 40_000)


async def test_a_job_is_known_by_itself_and_reserves_by_its_bounds(asking: Asking) -> None:
    async def send(carry: Carry) -> tuple[bytes, Any]:
        return Operation(operation="trainer-0199", resource="jobs/job-1").SerializeToString(), ()

    spec = JobSpec(model="late", feature_set="late", timeout_seconds=10, max_attempts=2)
    spec.train.column = spec.evaluate.column = "month"
    await asking.work.around(SUBMIT, SubmitJobRequest(spec=spec), CALLER, send)
    before = await asking.books.standing("cpu")
    await asking.end(7)  # of other work

    assert (before, await asking.books.standing("cpu")) == ((0, 40_000), (7, 40_000))


QUERY = contract.all_methods()["/aimass.v1.DataSets/QueryDataSets"]


class Querying(Asking):
    """A caller who queries, and the service that says by the reservation what he used."""

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.carried: list[str] = []
        self.tries = 1

    async def send(self, carry: Carry) -> tuple[bytes, Any]:
        for _ in range(self.tries):
            self.carried.append(await carry())
        if self.refuses:
            raise self.refuses.pop()
        return QueryDataSetsResponse().SerializeToString(), ()

    async def ask(self, seconds: int = 0) -> None:
        request = QueryDataSetsRequest(sql="SELECT 1", tables=[QueryTable(data_set="raw")], cpu_seconds=seconds)
        await self.work.around(QUERY, request, CALLER, self.send)

    def done(self, milliseconds: int) -> Work:
        return Work(reservation=self.carried[-1], kind="query", principal=WHO, cpu_milliseconds=milliseconds)


@pytest_asyncio.fixture
async def querying(asking: Asking) -> Querying:
    return Querying(asking.books)


async def test_a_query_is_settled_by_its_reservation(querying: Querying) -> None:
    await querying.ask(60)
    underway = await querying.books.standing("cpu")
    for _ in range(2):
        await querying.end(700)

    assert underway == (0, 60_000)
    assert await querying.books.standing("cpu") == (700, 0)
    assert [(line.key[4], line.entries) for line in await querying.used()] == [("query", 1)]


async def test_a_query_that_was_ended_for_what_it_used_stays_reserved_until_that_is_known(querying: Querying) -> None:
    querying.refuses = [Failure(Code.LIMIT_EXCEEDED, "it has used up its time")]
    with pytest.raises(Failure, match="it has used up its time"):
        await querying.ask(60)
    underway = await querying.books.standing("cpu")
    await querying.end(60_000)

    assert (underway, await querying.books.standing("cpu")) == ((0, 60_000), (60_000, 0))


async def test_a_query_that_was_never_begun_is_given_back(querying: Querying) -> None:
    querying.refuses = [Failure(Code.SQL_NOT_ALLOWED, "it does more than read")]
    with pytest.raises(Failure, match="it does more than read"):
        await querying.ask(60)

    assert await querying.books.standing("cpu") == (0, 0)


async def test_a_query_of_which_nothing_is_heard_is_given_back_in_the_end(querying: Querying) -> None:
    await querying.ask(60)
    querying.books.now += timedelta(seconds=301)
    await querying.books.entries.recover(False)

    assert await querying.books.standing("cpu") == (0, 0)


async def test_each_try_of_a_query_has_a_reservation_of_its_own_so_that_both_are_charged(querying: Querying) -> None:
    querying.tries = 2
    await querying.ask(40)
    underway = await querying.books.standing("cpu")
    await querying.end(700)
    querying.carried.pop()
    await querying.end(500)  # the try whose connection was lost

    assert underway == (0, 80_000)
    assert await querying.books.standing("cpu") == (1_200, 0)


async def test_a_budget_without_room_for_another_try_refuses_it_and_keeps_what_the_lost_one_may_use(
    querying: Querying,
) -> None:
    querying.tries = 2
    with pytest.raises(Failure, match="40000 of 100000 cpu_milliseconds are neither spent nor reserved"):
        await querying.ask(60)
    await querying.end(700)

    assert await querying.books.standing("cpu") == (700, 0)
