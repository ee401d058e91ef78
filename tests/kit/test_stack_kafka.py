"""Who has read how far, as a backup asks it."""

import asyncio
from uuid import uuid4

import pytest

from services.kit.bus import Event
from services.kit.bus_kafka import KafkaBus
from services.kit.stack.offsets_kafka import Offsets
from tests.support.servers import address

pytestmark = pytest.mark.far


def late(topic: str) -> list[str]:
    with Offsets(f"kafka://{address('kafka')}", None).asking() as offsets:
        ends = {place: end for place, end in offsets.ends().items() if place[0] == topic}
        return offsets.behind(ends)


async def test_what_nobody_reads_or_a_group_has_not_read_is_said_until_it_is_read() -> None:
    mark = uuid4().hex
    topic, group = f"aimass.{mark}.v1", f"group-{mark}"
    bus = KafkaBus(f"kafka://{address('kafka')}?partitions=2")
    await bus.publish([Event(topic, "k", b"1", {}), Event(topic, "l", b"2", {})])
    assert await asyncio.to_thread(late, topic) == [f"nobody has read {topic}"]

    reader = await bus.reader([topic], group)
    seen: list[Event] = []
    while len(seen) < 2:
        seen += await reader.poll(10)
    assert await asyncio.to_thread(late, topic) == [f"{group} has not read all of {topic}"]

    await reader.commit(seen)
    assert await asyncio.to_thread(late, topic) == []
    await bus.close()
    assert await asyncio.to_thread(late, topic) == []
