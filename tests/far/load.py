"""Open-loop load on the public door, in a process of its own: what was sent is sent at its time, whatever comes back.

`python -m tests.far.load` reads a plan as JSON, sends until its standard input closes or the time is over, and writes a
history of lines: `{"kind", "name", "status", "at", "took", "tries", "refused", "said"}`. Writes carry an idempotency
key and are sent again until they are answered for good; predictions are sent once.
"""

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO, cast

import uvloop

from tests.far.waiting import Answer, Waiting

_PATIENCE = 30.0  # seconds for one answer
_GIVE_UP = 120.0  # seconds until a write that nobody answers is given up
_FINAL = frozenset(range(200, 300)) | {400, 401, 403, 404, 405, 415, 422}


@dataclass(frozen=True)
class Write:
    """One kind of change: `{n}` in path and body is its name."""

    kind: str
    method: str
    path: str
    body: str


@dataclass(frozen=True)
class Plan:
    """What to send where, how often a second, and where to write the history."""

    doors: list[list[Any]]  # host and port of each gateway
    key: str
    history: str
    seconds: float
    writes: list[Write] = field(default_factory=list)
    writes_per_second: float = 0.0
    predict: str = ""
    body: str = ""
    predictions_per_second: float = 0.0
    connections: int = 64  # per door
    run: str = ""  # what the names of its writes begin with
    grpc: list[str] = field(default_factory=list)  # host:port of each gateway's gRPC door
    waiting: int = 0  # silent connections per door, and gRPC streams per gRPC door


class Connection(asyncio.Protocol):
    """One keep-alive connection: a request, its answer, the next."""

    def __init__(self) -> None:
        self._buffer, self._answer = b"", cast("asyncio.Future[Answer] | None", None)
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast(asyncio.Transport, transport), True

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the door closed"))

    async def ask(self, request: bytes) -> Answer:
        """Raises ConnectionError, TimeoutError."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(_PATIENCE):
            return await self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        if b"connection: close" in lower:
            self.open = False
            self._transport.close()
        if self._answer and not self._answer.done():
            status = int(head[9:12])
            self._answer.set_result((status, "" if status < 300 else rest[: min(length, 500)].decode(errors="replace")))

    def close(self) -> None:
        self.open = False
        self._transport.close()


class Door:
    """The connections to one gateway, opened as they are needed."""

    def __init__(self, host: str, port: int, most: int) -> None:
        self._host, self._port = host, port
        self._idle: deque[Connection] = deque()
        self._free = asyncio.Semaphore(most)

    async def ask(self, request: bytes) -> Answer:
        """Raises OSError, TimeoutError."""
        async with self._free:
            connection = await self._connection()
            try:
                return await connection.ask(request)
            except BaseException:
                connection.close()
                raise
            finally:
                if connection.open:
                    self._idle.append(connection)

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        _, made = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        return made


class Load:
    """Sends what the plan says and writes down what came of it."""

    def __init__(self, plan: Plan, history: TextIO) -> None:
        self._plan, self._history = plan, history
        self._doors = [Door(host, port, plan.connections) for host, port in plan.doors]
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until the time is over or somebody stops it; then what is under way ends."""
        plan = self._plan
        streams = []
        if plan.writes_per_second and plan.writes:
            streams.append(self._send(stop, plan.writes_per_second, self._write))
        if plan.predictions_per_second and plan.predict:
            streams.append(self._send(stop, plan.predictions_per_second, self._predict))
        if plan.waiting:
            waiting = Waiting(
                plan.key, lambda kind, answer, began: self._note(kind, "", answer[0], began, 1, said=answer[1])
            )
            streams.append(waiting.run(stop, plan.doors, plan.grpc, plan.waiting))
        await asyncio.gather(*streams)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GIVE_UP)

    async def _send(self, stop: asyncio.Event, rate: float, work: Any) -> None:
        start, count = time.monotonic(), 0
        while not stop.is_set() and time.monotonic() - start < self._plan.seconds:
            due = 1 + int((time.monotonic() - start) * rate)  # the first is due at the start
            for number in range(count, due):
                task = asyncio.create_task(work(number, start + number / rate))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            count = max(count, due)
            await asyncio.sleep(0.005)

    def _door(self) -> Door:
        self._turn += 1
        return self._doors[self._turn % len(self._doors)]

    async def _predict(self, number: int, due: float) -> None:
        request = self._request("POST", self._plan.predict, self._plan.body, {})
        status, said = await self._ask(request)
        self._note("prediction", str(number), status, due, 1, said=said)

    async def _write(self, number: int, due: float) -> None:
        write = self._plan.writes[number % len(self._plan.writes)]
        name = f"{self._plan.run}{number}"
        path, body = (text.replace("{n}", name) for text in (write.path, write.body))
        request = self._request(write.method, path, body, {"Idempotency-Key": f"load-{write.kind}-{name}"})
        tries, status, refused, said = 0, 0, 0.0, ""
        while status not in _FINAL and time.monotonic() - due < _GIVE_UP:
            if tries:
                await asyncio.sleep(random.uniform(0.5, 1.0) * min(0.1 * 2**tries, 8.0))
            tries, asked = tries + 1, time.monotonic()
            status, why = await self._ask(request)
            if status not in _FINAL:
                refused, said = max(refused, time.monotonic() - asked), why
        self._note(write.kind, name, status, due, tries, refused, said)

    async def _ask(self, request: bytes) -> Answer:
        try:
            return await self._door().ask(request)
        except (OSError, TimeoutError) as error:
            return 0, repr(error)

    def _request(self, method: str, path: str, body: str, more: dict[str, str]) -> bytes:
        content = body.encode()
        headers = {
            "Host": "localhost",
            "Authorization": f"Bearer {self._plan.key}",
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
        } | more
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + content

    def _note(
        self, kind: str, name: str, status: int, due: float, tries: int, refused: float = 0.0, said: str = ""
    ) -> None:
        took = time.monotonic() - due
        line = {"kind": kind, "name": name, "status": status, "at": time.time() - took, "took": took, "tries": tries}
        line |= {"refused": refused, "said": said}  # seconds that the slowest refusal took, and the last one's words
        self._history.write(json.dumps(line) + "\n")


def read(path: str) -> Iterator[dict[str, Any]]:
    """The lines of a history."""
    with open(path) as file:
        for line in file:
            yield json.loads(line)


async def main() -> None:
    """Reads the plan from the first line of the input; a second line, or its end, stops the load."""
    document = json.loads(sys.stdin.readline())
    writes = [Write(**write) for write in document.pop("writes", [])]
    plan, stop, loop = Plan(**document, writes=writes), asyncio.Event(), asyncio.get_running_loop()

    def told() -> None:
        sys.stdin.readline()
        loop.call_soon_threadsafe(stop.set)

    waiting = loop.run_in_executor(None, told)
    with open(plan.history, "w") as history:  # noqa: ASYNC230 - nothing is sent yet
        await Load(plan, history).run(stop)
    print("done", flush=True)
    await waiting


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
