"""Reads a topic in a group for ever, ten events at a time: it says an event's id, and commits. Somebody kills it."""

import asyncio
import sys

from services.kit.bus_kafka import KafkaBus


async def main(url: str, topic: str, group: str) -> None:
    reader = await KafkaBus(url).reader([topic], group)
    while True:
        events = await reader.poll(10)
        print("\n".join(event.id for event in events), flush=True)
        await reader.commit(events)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
