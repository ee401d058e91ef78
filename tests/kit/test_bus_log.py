"""What the near bus keeps, for whom and how long."""

import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, select, update
from sqlalchemy.engine import Connection

from services.kit import bus, bus_log
from services.kit.bus import Event, NearBus
from services.kit.event import TELEMETRY
from services.kit.migrations import downgrade, upgrade

TOPIC, DAY = "aimass.data.v1", 24 * 3600.0
FOLDER = Path(bus.__file__).parent / "bus_migrations"


@pytest.fixture
async def near(tmp_path: Path) -> AsyncIterator[NearBus]:
    found = NearBus(tmp_path / "bus.db")
    await found.start()
    yield found
    await found.close()


def event(number: int, topic: str = TOPIC) -> Event:
    return Event(topic, "k", b"", {"ce_id": str(number)})


async def publish_old(near: NearBus, age: float, *topics: str) -> None:
    """One event for each topic, as old as that."""
    await near.publish([event(number, topic) for number, topic in enumerate(topics)])
    await near._db.run(
        lambda c: c.execute(update(bus_log.record).values(time=bus_log.record.c.time - age)) and None  # all before too
    )


async def left(near: NearBus) -> list[str]:
    """Topics of what is there after pruning."""
    await near._db.run(lambda c: bus_log.prune(c, time.time()))
    topics = select(bus_log.record.c.topic).order_by(bus_log.record.c.offset)
    return list(await near._db.run(lambda c: c.execute(topics).scalars().all()))


@pytest.mark.parametrize(
    ("topic", "age", "kept"),
    [
        (TELEMETRY, 0.9 * DAY, True),
        (TELEMETRY, 1.1 * DAY, False),
        (TOPIC, 6.9 * DAY, True),
        (TOPIC, 7.1 * DAY, False),
        (f"{TOPIC}.dead", 6.9 * DAY, True),
        (f"{TOPIC}.dead", 7.1 * DAY, False),
    ],
)
async def test_what_nobody_reads_is_bounded_by_age(near: NearBus, topic: str, age: float, kept: bool) -> None:
    await publish_old(near, age, topic)

    assert await left(near) == [topic] * kept


@pytest.mark.parametrize(
    ("topic", "age", "kept"),
    [(TELEMETRY, 500, True), (TELEMETRY, 700, False), (TOPIC, 0.9 * DAY, True), (TOPIC, 1.1 * DAY, False)],
)
async def test_what_everybody_has_read_stays_for_a_while(near: NearBus, topic: str, age: float, kept: bool) -> None:
    await publish_old(near, age, topic)
    reader = await near.reader([topic], "g")
    await reader.commit(await reader.poll(10))

    assert await left(near) == [topic] * kept


@pytest.mark.parametrize(("topic", "kept"), [(TOPIC, True), (TELEMETRY, False)])
async def test_events_wait_for_their_group_and_telemetry_does_not(near: NearBus, topic: str, kept: bool) -> None:
    await near.reader([topic], "logs")
    await publish_old(near, 30 * DAY, topic)

    assert await left(near) == [topic] * kept


async def test_a_group_of_one_process_holds_nothing_back(near: NearBus) -> None:
    await near.reader([TOPIC], "gateway-gone", from_end=True)
    lasting = await near.reader([TOPIC], "data")
    await publish_old(near, 2 * DAY, TOPIC, TOPIC)
    await lasting.commit(await lasting.poll(10))

    assert await left(near) == []


async def test_a_group_that_hears_one_topic_holds_no_other_back(near: NearBus) -> None:
    slow, fast = await near.reader([TELEMETRY], "slow"), await near.reader([TOPIC], "fast")
    await publish_old(near, 2 * DAY, TOPIC)
    await fast.commit(await fast.poll(10))

    assert await left(near) == []
    assert slow


async def test_a_new_group_reads_on_when_everything_before_it_is_gone(near: NearBus) -> None:
    await publish_old(near, 8 * DAY, TOPIC, TOPIC)
    assert await left(near) == []
    for from_end in (False, True):
        reader = await near.reader([TOPIC], f"new-{from_end}", from_end=from_end)
        await near.publish([event(7)])
        assert [e.id for e in await reader.poll(10)][-1:] == ["7"]


async def test_offsets_go_on_where_they_were_although_the_log_is_empty(near: NearBus) -> None:
    reader = await near.reader([TOPIC], "g")
    await publish_old(near, 2 * DAY, TOPIC, TOPIC, TOPIC)
    first = await reader.poll(10)
    await reader.commit(first)
    assert await left(near) == []
    await near.publish([event(9)])

    assert (await (await near.reader([TOPIC], "g")).poll(10))[0].offset == first[-1].offset + 1


@pytest.mark.parametrize("by", ["publish", "commit"])
async def test_pruning_comes_by_itself(near: NearBus, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = await near.reader([TOPIC], "g")
    await publish_old(near, 2 * DAY, TELEMETRY)
    monkeypatch.setattr(bus, "_PRUNE_EVERY", -1.0)
    await (near.publish([event(1)]) if by == "publish" else reader.commit([]))

    topics = await near._db.run(lambda c: c.execute(select(bus_log.record.c.topic)).scalars().all())
    assert TELEMETRY not in topics


async def test_pruning_does_not_come_with_every_event(near: NearBus) -> None:
    await publish_old(near, 2 * DAY, TELEMETRY)
    await near.publish([event(1)])

    topics = await near._db.run(lambda c: c.execute(select(bus_log.record.c.topic)).scalars().all())
    assert TELEMETRY in topics


async def test_a_group_that_exists_does_not_begin_at_the_end(near: NearBus) -> None:
    await near.reader([TOPIC], "g")
    await near.publish([event(1)])

    assert [e.id for e in await (await near.reader([TOPIC], "g", from_end=True)).poll(10)] == ["1"]


async def test_topics_are_read_in_one_order(near: NearBus) -> None:
    topics = [TOPIC, TELEMETRY, TOPIC, "aimass.logs.v1", TELEMETRY]
    await near.publish([event(number, topic) for number, topic in enumerate(topics)])
    reader = await near.reader(sorted(set(topics)), "g")
    pages = [[e.id for e in await reader.poll(2)] for _ in range(3)]

    assert pages == [["0", "1"], ["2", "3"], ["4"]]


@pytest.fixture(scope="module")
def tables() -> Iterator[Connection]:
    """The tables of the log, made once for all examples."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        bus_log.metadata.create_all(connection)
        connection.commit()
        yield connection
    engine.dispose()


@contextlib.contextmanager
def emptied(tables: Connection) -> Iterator[Connection]:
    """What an example writes is gone after it."""
    with tables.begin() as transaction:
        yield tables
        transaction.rollback()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12))
def test_a_group_moves_forward_only(tables: Connection, offsets: list[int]) -> None:
    with emptied(tables) as opened:
        for offset in offsets:
            bus_log.move(opened, "g", {TOPIC: offset})
        assert bus_log.open_group(opened, [TOPIC], "g", False) == {TOPIC: max(offsets)}


ages = st.lists(st.tuples(st.sampled_from([TOPIC, TELEMETRY, "x.dead"]), st.floats(0, 10 * DAY)), max_size=12)


@given(ages, st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 12)))
def test_pruning_never_takes_an_event_that_a_group_still_waits_for(
    tables: Connection, told: list[tuple[str, float]], groups: dict[str, int]
) -> None:
    with emptied(tables) as opened:
        rows = [
            {"topic": topic, "key": "", "headers": b"", "body": b"", "time": 1e9 - age, "offset": number}
            for number, (topic, age) in zip(itertools.count(1), told, strict=False)
        ]
        if rows:
            bus_log.append(opened, rows)
        for name, offset in groups.items():
            bus_log.move(opened, name, {TOPIC: offset})
        bus_log.prune(opened, 1e9)
        kept = set(opened.execute(select(bus_log.record.c.offset)).scalars())

    waiting = {n for n, (t, _) in enumerate(told, 1) if t == TOPIC and groups and n > min(groups.values())}
    young = {n for n, (_, age) in enumerate(told, 1) if age < 600}
    assert waiting | young <= kept
    assert not [n for n in kept if told[n - 1][0] == TELEMETRY and told[n - 1][1] > DAY]


def test_a_log_of_before_is_brought_up_and_keeps_its_groups(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/bus.db")
    upgrade(engine, FOLDER, "0001")
    with engine.begin() as opened:
        opened.exec_driver_sql("INSERT INTO group_offset (name, topic, offset) VALUES ('g', 't', 7)")
    upgrade(engine, FOLDER)
    with engine.begin() as opened:
        assert bus_log.open_group(opened, ["t"], "g", False) == {"t": 7}
        assert opened.execute(select(bus_log.group_offset.c.passing)).scalars().all() == [False]
    downgrade(engine, FOLDER, "0001")
    with engine.begin() as opened:
        assert opened.exec_driver_sql("SELECT * FROM group_offset").all() == [("g", "t", 7)]
    engine.dispose()


def test_a_migrated_log_is_what_the_code_thinks_it_is(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = create_engine(f"sqlite:///{tmp_path}/bus.db")
    upgrade(engine, FOLDER)
    with engine.connect() as opened:
        differences = compare_metadata(MigrationContext.configure(opened), bus_log.metadata)
    engine.dispose()

    assert differences == []
