"""The trail of audited calls: many lines in one transaction, none lost, and nobody answered before his is kept."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from aimass.v1 import audit_events_pb2
from services.gateway.access import trail as trail_module
from services.gateway.access.trail import Trail
from services.kit.auth import Principal, Scope
from services.kit.bus import Event
from services.kit.errors import Code, Failure, Unavailable
from services.kit.pace import Pace

CALLER = Principal(Scope("acme", "default"), "key:abcdefgh", ("*",))


class Book:
    """Keeps what is written, when it is let."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.refuses: set[str] = set()
        self.failure: Exception = Unavailable("the database cannot be reached")

    async def write(self, events: Sequence[Event]) -> None:
        names = [audit_events_pb2.CallAudited.FromString(event.body).request_id for event in events]
        await self.open.wait()
        if self.refuses & set(names):
            raise self.failure
        self.lines.append(names)


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def trail(book: Book) -> Trail:
    return Trail(book.write, lambda: datetime.now(UTC))


def add(trail: Trail, name: str) -> "asyncio.Task[None]":
    return asyncio.ensure_future(trail.add(CALLER, name, "aimass.v1.Access/CreateTenant", "", outcome="ok", address=""))


async def test_a_line_is_kept_when_its_call_goes_on(trail: Trail, book: Book) -> None:
    book.open.clear()
    waiting = add(trail, "a")
    await asyncio.sleep(0.02)
    assert not waiting.done()

    book.open.set()
    await waiting
    assert book.lines == [["a"]]


async def test_lines_that_come_while_one_is_written_go_together_in_their_order(trail: Trail, book: Book) -> None:
    book.open.clear()
    first = add(trail, "a")
    await asyncio.sleep(0.01)
    others = [add(trail, name) for name in "bcd"]
    await asyncio.sleep(0.01)
    book.open.set()
    await asyncio.gather(first, *others)

    assert book.lines == [["a"], ["b", "c", "d"]]


async def test_a_transaction_has_so_many_lines_and_no_more(
    trail: Trail, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "_TOGETHER", 2)
    async with asyncio.timeout(10):  # a line that is lost is waited for in vain
        await asyncio.gather(*(add(trail, str(number)) for number in range(5)))

    assert book.lines == [["0", "1"], ["2", "3"], ["4"]]


async def test_many_calls_one_behind_the_other_keep_to_the_pace(book: Book) -> None:
    trail = Trail(book.write, lambda: datetime.now(UTC))
    trail._pace = Pace(0.05, at_once=1)
    began = asyncio.get_running_loop().time()
    for number in range(3):
        await add(trail, str(number))

    assert asyncio.get_running_loop().time() - began >= 0.1


async def test_what_cannot_be_kept_is_said_for_each_call_and_the_next_one_is_kept(
    trail: Trail, book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    book.refuses = {"a"}
    await asyncio.gather(add(trail, "a"), add(trail, "b"))
    await add(trail, "c")

    assert [record.getMessage() for record in caplog.records] == [
        "the audit trail lacks aimass.v1.Access/CreateTenant by key:abcdefgh: the database cannot be reached"
    ] * 2
    assert book.lines == [["c"]]


async def test_a_line_that_is_refused_for_itself_takes_no_other_with_it(trail: Trail, book: Book) -> None:
    book.refuses, book.failure = {"b"}, Failure(Code.LIMIT_EXCEEDED, "too large")
    await asyncio.gather(*(add(trail, name) for name in "abc"))

    assert book.lines == [["a"], ["c"]]


async def test_a_fault_goes_to_those_who_wait_and_not_to_those_who_come(trail: Trail, book: Book) -> None:
    book.refuses, book.failure = {"a"}, RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        await add(trail, "a")
    await add(trail, "b")

    assert book.lines == [["b"]]


async def test_the_line_of_one_who_went_away_is_kept_all_the_same(trail: Trail, book: Book) -> None:
    book.open.clear()
    gone = add(trail, "a")
    await asyncio.sleep(0.01)
    gone.cancel()
    book.open.set()
    await add(trail, "b")

    assert [line for lines in book.lines for line in lines] == ["a", "b"]
