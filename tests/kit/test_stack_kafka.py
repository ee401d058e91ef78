"""Who has read how far, as a backup asks it."""

import asyncio
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import MetaData, create_engine, text
from sqlalchemy.pool import NullPool

from services.kit.bus import Event
from services.kit.bus_kafka import KafkaBus
from services.kit.errors import Unavailable
from services.kit.leases import Leases
from services.kit.space import Space
from services.kit.stack import stack_of
from services.kit.stack.offsets_kafka import Offsets
from services.kit.stack.snapshot import snapshot
from tests.kit.test_stack import settings
from tests.support.servers import address, database

pytestmark = pytest.mark.far


def late(topic: str, group: str) -> list[str]:
    with Offsets(f"kafka://{address('kafka')}", None, {group: frozenset({topic})}).asking() as offsets:
        ends = {place: end for place, end in offsets.ends().items() if place[0] == topic}
        return list(offsets.behind(ends))


async def told(topic: str, group: str) -> list[str]:
    """What is said when a broker that has just begun knows of the topic, and where the group's offsets are kept."""
    async with asyncio.timeout(60):
        while not (said := await asyncio.to_thread(late, topic, group)) or said[0].startswith("kafka does not know"):
            await asyncio.sleep(0.2)
    return said


async def test_a_group_is_waited_for_until_it_has_read_everything() -> None:
    mark = uuid4().hex
    topic, group = f"aimass.{mark}.v1", f"group-{mark}"
    bus = KafkaBus(f"kafka://{address('kafka')}?partitions=2")
    await bus.publish([Event(topic, "k", b"1", {}), Event(topic, "l", b"2", {})])
    assert await told(topic, group) == [f"{group} has not read all of {topic}"]

    reader = await bus.reader([topic], group)
    seen: list[Event] = []
    while len(seen) < 2:
        seen += await reader.poll(10)
    assert await asyncio.to_thread(late, topic, group) == [f"{group} has not read all of {topic}"]

    await reader.commit(seen)
    assert await asyncio.to_thread(late, topic, group) == []
    await bus.close()
    assert await asyncio.to_thread(late, topic, group) == []


@pytest.mark.parametrize(
    ("group", "percent", "said"),
    [
        ("logs", 100, r"logs has not read all of aimass\.\w+\.v1\Z"),
        ("logs", 0, r"logs has not read all of aimass\.\w+\.v1: \d+ % of the disk are used: nothing large is written"),
        ("registry", 0, r"registry has not read all of aimass\.\w+\.v1\Z"),
    ],
)
async def test_nobody_s_events_are_held_back_for_a_backlog(tmp_path: Path, group: str, percent: int, said: str) -> None:
    """And where a full disk is why the log centre reads nothing, that is said beside."""
    topic, url = f"aimass.{uuid4().hex}.v1", f"kafka://{address('kafka')}"
    bus = KafkaBus(f"{url}?partitions=2")
    await bus.publish([Event(topic, "k", b"1", {})])
    await bus.close()
    await told(topic, group)
    engine, metadata = create_engine(database(address("postgres")), poolclass=NullPool), MetaData()
    Leases(metadata)
    metadata.create_all(engine)
    where = engine.url.render_as_string(hide_password=False)
    space = Space(tmp_path, percent)
    stack = replace(stack_of(settings(tmp_path)), bus_url=url, databases={"logs": where}, space=space)

    def wait() -> None:
        with snapshot(stack, Offsets(url, None, {group: frozenset({topic})}), seconds=1.0, most=1.0):
            raise AssertionError("nobody has read the event")

    with pytest.raises(Unavailable, match=said):
        await asyncio.to_thread(wait)

    with engine.connect() as connection:
        assert list(connection.execute(text("SELECT name FROM lease"))) == []
