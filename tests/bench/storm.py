"""Callers who come at a rate, whatever becomes of those before them, and come again when they are refused.

In a process of its own: reads the plan as JSON, writes what happened in each second as JSON.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass, field

import uvloop

ATTEMPTS = 3
MOST = 900  # connections; a gateway takes a thousand


@dataclass
class Plan:
    """Requests a second, second by second."""

    host: str
    port: int
    request: bytes
    rates: list[float]
    seed: int = 7


@dataclass
class Second:
    """What came back of what was sent in one second: how long each took, in milliseconds."""

    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)


class Storm:
    """The callers."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._dice = plan, random.Random(plan.seed)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open = 0
        self.seconds = [Second() for _ in plan.rates]

    async def run(self) -> None:
        """Everybody, until the last one has his answer."""
        begun, tasks = time.perf_counter(), set[asyncio.Task[None]]()
        due = begun
        while (second := int(due - begun)) < len(self._plan.rates):
            tasks.add(task := asyncio.create_task(self._caller(begun)))
            task.add_done_callback(tasks.discard)
            due += self._dice.expovariate(self._plan.rates[second])
            await asyncio.sleep(max(due - time.perf_counter(), 0))
        await asyncio.gather(*tasks)

    async def _caller(self, begun: float) -> None:
        for attempt in range(ATTEMPTS):
            while not self._idle and self._open >= MOST:
                await asyncio.sleep(0.01)
            sent = time.perf_counter()
            second = self.seconds[min(int(sent - begun), len(self.seconds) - 1)]
            try:
                status = await self._ask()
            except (OSError, EOFError, TimeoutError):
                status = 0
            took = (time.perf_counter() - sent) * 1000
            if status == 200:
                second.answered.append(took)
                return
            if status != 503:
                second.failed.append(status)
                return
            second.refused.append(took)
            # Less patient than he is asked to be, as callers are.
            await asyncio.sleep(self._dice.uniform(0.1, 0.3) * 2**attempt)

    async def _ask(self) -> int:
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            self._open += 1
            reader, writer = await asyncio.open_connection(self._plan.host, self._plan.port)
        try:
            async with asyncio.timeout(30):
                writer.write(self._plan.request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
        except BaseException:
            self._open -= 1
            writer.close()
            raise
        if b"connection: close" in head:
            self._open -= 1
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head.split(b" ")[1])


def main() -> None:
    """Reads, runs, writes."""
    document = json.load(sys.stdin)
    storm = Storm(Plan(**document | {"request": document["request"].encode()}))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(storm.run())
    json.dump([vars(second) for second in storm.seconds], sys.stdout)


if __name__ == "__main__":
    main()
