"""The client: a closed loop over keep-alive connections in a process of its own, little more than sockets."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import cast

import uvloop


@dataclass
class Plan:
    """What to send where."""

    host: str
    port: int
    request: bytes
    connections: int
    seconds: float


@dataclass
class Tally:
    """What came back."""

    until: float
    seconds: list[float] = field(default_factory=list)
    failed: int = 0


class Connection(asyncio.Protocol):
    """Sends the request, waits for the whole answer, sends it again."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request, self._tally = request, tally
        self._buffer = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # that of uvloop is none by its class
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or len(rest) < _length(head):
            return
        self._buffer = b""
        now = time.perf_counter()
        self._tally.seconds.append(now - self._sent)
        self._tally.failed += not head.startswith(b"HTTP/1.1 200")
        if now < self._tally.until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.index(b"content-length:") + 15
    return int(lower[at:].split(b"\r\n", 1)[0])


async def run(plan: Plan) -> dict[str, float]:
    """Requests per second, latencies in milliseconds, failures."""
    loop = asyncio.get_running_loop()
    tally = Tally(time.perf_counter() + plan.seconds)
    begun = time.perf_counter()
    made = [
        await loop.create_connection(lambda: Connection(plan.request, tally), plan.host, plan.port)
        for _ in range(plan.connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    took = sorted(tally.seconds)
    return {
        "count": float(len(took)),
        "rps": len(took) / (time.perf_counter() - begun),
        "p50": took[len(took) // 2] * 1000,
        "p99": took[len(took) * 99 // 100] * 1000,
        "failed": float(tally.failed),
    }


def main() -> None:
    """Reads the plan as JSON, writes the figures as JSON."""
    document = json.load(sys.stdin)
    plan = Plan(**document | {"request": document["request"].encode()})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(runner.run(run(plan)), sys.stdout)


if __name__ == "__main__":
    main()
