"""Who has read how far, as a backup asks it."""

import asyncio
from uuid import uuid4

import pytest

from services.kit.bus import Event
from services.kit.bus_kafka import KafkaBus
from services.kit.stack.offsets_kafka import Offsets
from tests.support.servers import address

pytestmark = pytest.mark.far


def late(topic: str, group: str) -> list[str]:
    with Offsets(f"kafka://{address('kafka')}", None, {group: frozenset({topic})}).asking() as offsets:
        ends = {place: end for place, end in offsets.ends().items() if place[0] == topic}
        return list(offsets.behind(ends))


async def test_a_group_is_waited_for_until_it_has_read_everything() -> None:
    mark = uuid4().hex
    topic, group = f"aimass.{mark}.v1", f"group-{mark}"
    bus = KafkaBus(f"kafka://{address('kafka')}?partitions=2")
    await bus.publish([Event(topic, "k", b"1", {}), Event(topic, "l", b"2", {})])
    while (said := await asyncio.to_thread(late, topic, group)) and said[0].startswith("kafka does not know"):
        await asyncio.sleep(0.2)
    assert said == [f"{group} has not read all of {topic}"]

    reader = await bus.reader([topic], group)
    seen: list[Event] = []
    while len(seen) < 2:
        seen += await reader.poll(10)
    assert await asyncio.to_thread(late, topic, group) == [f"{group} has not read all of {topic}"]

    await reader.commit(seen)
    assert await asyncio.to_thread(late, topic, group) == []
    await bus.close()
    assert await asyncio.to_thread(late, topic, group) == []
