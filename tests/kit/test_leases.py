import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from services.kit.db import Database, Once
from services.kit.errors import Code, Failure
from services.kit.leases import Leases, Tenure
from services.kit.schema import Schema
from tests.kit.conftest import migrations
from tests.support import servers
from tests.support.house import until

T = TypeVar("T")


@pytest.fixture
def leases(schema: Schema) -> Leases:
    return schema.tenure._leases


async def take(db: Database, leases: Leases, owner: str, *names: str, seconds: float = 60) -> dict[str, int]:
    return await db.write(lambda c: leases.take(c, names, owner, seconds))


async def test_a_free_name_is_taken_and_a_held_one_is_not(db: Database, leases: Leases) -> None:
    assert await take(db, leases, "one", "a", "b") == {"a": 1, "b": 1}
    assert await take(db, leases, "two", "b", "c") == {"c": 1}


async def test_a_held_name_can_be_seized_and_its_fence_tells(db: Database, leases: Leases) -> None:
    await take(db, leases, "one", "a")

    assert await db.write(lambda c: leases.take(c, ["a"], "two", 60, seize=True)) == {"a": 2}
    assert await take(db, leases, "one", "a") == {}


async def test_the_owner_renews_with_the_same_fence(db: Database, leases: Leases) -> None:
    await take(db, leases, "one", "a")

    assert await take(db, leases, "one", "a") == {"a": 1}


async def test_a_name_whose_time_is_over_changes_hands_with_a_higher_fence(db: Database, leases: Leases) -> None:
    await take(db, leases, "one", "a", seconds=-1)

    assert await take(db, leases, "two", "a") == {"a": 2}
    assert await take(db, leases, "one", "a") == {}


async def test_who_had_it_last_may_renew_late(db: Database, leases: Leases) -> None:
    await take(db, leases, "one", "a", seconds=-1)

    assert await take(db, leases, "one", "a") == {"a": 1}


async def test_what_is_given_back_is_free_and_its_fence_goes_on(db: Database, leases: Leases) -> None:
    await take(db, leases, "one", "a")
    await db.write(lambda c: leases.free(c, ["a"], "one"))

    assert await take(db, leases, "two", "a") == {"a": 2}


async def test_nobody_gives_back_what_is_not_his(db: Database, leases: Leases) -> None:
    await take(db, leases, "one", "a")
    await db.write(lambda c: leases.free(c, ["a"], "two"))
    await db.write(lambda c: leases.forget(c, "a", "two"))

    assert await take(db, leases, "two", "a") == {}


async def test_a_write_with_an_old_fence_is_refused(db: Database, leases: Leases) -> None:
    await take(db, leases, "one", "a", seconds=-1)
    await take(db, leases, "two", "a")

    with pytest.raises(Failure) as caught:
        await db.run(lambda c: leases.check(c, "a", 1))
    assert caught.value.code is Code.FENCE_STALE
    await db.run(lambda c: leases.check(c, "a", 2))


async def test_of_many_who_want_it_at_once_one_has_it(db: Database, leases: Leases) -> None:
    taken = await asyncio.gather(*(take(db, leases, f"p{n}", "a", "b") for n in range(20)))

    assert sorted(len(names) for names in taken)[-2:] in ([0, 2], [1, 1])
    assert sum(map(len, taken)) == 2


async def test_a_database_of_one_process_needs_no_leases(schema: Schema, tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/own.db", migrations(tmp_path))
    schema.tenure.bind(db, "one")

    assert await schema.tenure.take(["a"]) == {"a"}  # the database is not even open
    assert schema.tenure.holds("a")
    db.close()


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(servers.database(servers.address("postgres")), migrations(tmp_path))
    await made.start()
    yield made
    made.close()


def tenure(db: Database, leases: Leases, owner: str, seconds: float = 60) -> Tenure:
    made = Tenure(leases, seconds)
    made.bind(db, owner)
    return made


@pytest.mark.far
async def test_what_is_held_is_relied_on_until_shortly_before_its_end(shared: Database, leases: Leases) -> None:
    one = tenure(shared, leases, "one", seconds=0.8)
    await one.take(["a"])
    assert one.holds("a")
    await asyncio.sleep(0.4)

    assert not one.holds("a")
    assert await tenure(shared, leases, "two").take(["a"]) == set()  # it is not over yet


@pytest.mark.far
async def test_a_process_that_lives_keeps_what_it_has(shared: Database, leases: Leases) -> None:
    one, two = tenure(shared, leases, "one", seconds=1), tenure(shared, leases, "two")
    await one.take(["a"])
    renewing = asyncio.create_task(one.run())
    await asyncio.sleep(1.5)

    assert await two.take(["a"]) == set()
    assert one.holds("a")
    await stopped(renewing)
    await one.close()
    assert await two.take(["a"]) == {"a"}


@pytest.mark.far
async def test_a_process_hears_that_it_lost_something(shared: Database, leases: Leases) -> None:
    one, lost = tenure(shared, leases, "one", seconds=0.6), list[str]()

    async def hear(name: str) -> None:
        lost.append(name)

    one.on_loss.append(hear)
    await one.take(["a", "b"])
    await asyncio.sleep(0.7)
    await tenure(shared, leases, "two").take(["a"])
    renewing = asyncio.create_task(one.run())
    await until(lambda: lost)
    await stopped(renewing)

    assert lost == ["a"]
    with pytest.raises(Failure, match="another process has the lease"):
        await shared.run(lambda c: one.check(c, "a"))


@pytest.mark.far
async def test_what_has_ended_leaves_no_row(shared: Database, leases: Leases) -> None:
    one = tenure(shared, leases, "one")
    await one.take(["a"])
    await one.end("a")

    assert await tenure(shared, leases, "two").take(["a"]) == {"a"}


@pytest.mark.far
async def test_a_name_does_not_change_hands_between_a_check_and_its_commit(shared: Database, leases: Leases) -> None:
    await take(shared, leases, "one", "a", seconds=-1)  # its time is over, anybody may take it
    checked, order = threading.Event(), list[str]()

    def work(connection: Connection) -> None:
        leases.check(connection, "a", 1)
        checked.set()
        time.sleep(0.3)
        order.append("written")

    writing = asyncio.create_task(shared.run(work))
    await until(checked.is_set)
    assert await take(shared, leases, "two", "a") == {"a": 2}
    order.append("taken")
    await writing

    assert order == ["written", "taken"]


@pytest.mark.far
async def test_two_who_have_some_and_want_all_stand_in_one_line(shared: Database, leases: Leases) -> None:
    await take(shared, leases, "one", "b", "c")
    await take(shared, leases, "two", "a")
    locked, free, takes = threading.Event(), threading.Event(), list[str]()
    mine = "datname = current_database() AND wait_event_type = 'Lock'"
    query = text(f"SELECT count(*) FROM pg_stat_activity WHERE {mine}")

    def work(connection: Connection) -> None:
        connection.execute(select(leases.table).where(leases.table.c.name == "c").with_for_update())
        locked.set()
        free.wait(30)

    async def wait(count: int) -> bool:
        return bool(await shared.read(lambda c: c.execute(query).scalar_one()) == count)

    def counted(owner: str) -> Callable[[Connection], dict[str, int]]:
        def tried(connection: Connection) -> dict[str, int]:
            takes.append(owner)
            return leases.take(connection, "abc", owner, 60)

        return tried

    holding = asyncio.create_task(shared.write(work))
    try:
        await until(locked.is_set)
        one = asyncio.create_task(shared.write(counted("one")))
        await until(lambda: wait(1))
        two = asyncio.create_task(shared.write(counted("two")))
        await until(lambda: wait(2))
    finally:
        free.set()

    assert (await one, await two) == ({"b": 1, "c": 1}, {"a": 1})
    assert takes == ["one", "two"]  # a deadlock makes the database take one of them back
    await holding


class Slow(Database):
    """A database whose answers take their time, when it is told so."""

    pause = 0.0

    async def write(self, work: Callable[[Connection], T], once: Once | None = None) -> T:
        result = await super().write(work, once)
        await asyncio.sleep(self.pause)
        return result


@pytest.mark.far
async def test_what_ends_while_it_is_renewed_does_not_come_back(
    shared: Database, leases: Leases, tmp_path: Path
) -> None:
    slow = Slow(shared.url, migrations(tmp_path))
    one = tenure(slow, leases, "one")
    await one.take(["a", "b"])
    slow.pause = 0.3
    renewing = asyncio.create_task(one.run())
    await asyncio.sleep(0.15)
    await one.end("a")
    await asyncio.sleep(0.3)
    await stopped(renewing)
    slow.close()

    assert set(one.names()) == {"b", "process/one"}
    assert await tenure(shared, leases, "two").take(["a", "b"]) == {"a"}


async def stopped(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait([task], timeout=5)


@pytest.mark.far
async def test_a_process_knows_whether_others_use_the_database(shared: Database, leases: Leases) -> None:
    one, two = tenure(shared, leases, "one", seconds=1), tenure(shared, leases, "two", seconds=1)
    working = [asyncio.create_task(one.run())]
    await until(lambda: not one.in_company)
    working.append(asyncio.create_task(two.run()))
    await until(lambda: one.in_company)
    await stopped(working[1])
    await two.close()
    await until(lambda: not one.in_company)
    await stopped(working[0])
