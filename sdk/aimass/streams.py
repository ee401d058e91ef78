"""Streaming answers: bytes, or messages."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import orjson
from google.protobuf.message import Message

from aimass.connection import named, request_of
from aimass.contract import Method
from aimass.encoding import decode
from aimass.exchange import Answer, Plan, Send, Sleep, Unreachable, exchange
from aimass.failures import Failure, of_problem

NDJSON = "application/x-ndjson"


@contextmanager
def read(url: str) -> Iterator[None]:
    """Turns a connection that breaks into a Failure `unavailable`."""
    try:
        with named(url):
            yield
    except Unreachable as error:
        raise Failure("deadline_exceeded" if error.late else "unavailable", str(error)) from None


@contextmanager
def opened(http: Any, url: str, send: Send, budget: float) -> Iterator[Any]:
    """A response to read as it arrives. Raises Failure if the request is refused.

    A request that is refused for now is repeated for at most `budget` seconds; a connection that breaks is not.
    """
    plan = exchange(send, budget)
    while True:
        next(plan)
        with read(url), http.stream(**request_of(send)) as response:
            content = response.read() if response.status_code >= 400 else b""
            pause = _pause(plan, Answer(response.status_code, response.headers, content))
            if pause is None:
                yield response
                return
        time.sleep(pause)


@asynccontextmanager
async def opened_async(http: Any, url: str, send: Send, budget: float) -> AsyncIterator[Any]:
    """As `opened`, for asyncio."""
    plan = exchange(send, budget)
    while True:
        next(plan)
        with read(url):
            async with http.stream(**request_of(send)) as response:
                content = await response.aread() if response.status_code >= 400 else b""
                pause = _pause(plan, Answer(response.status_code, response.headers, content))
                if pause is None:
                    yield response
                    return
        await asyncio.sleep(pause)


def _pause(plan: Plan[Answer], answer: Answer) -> float | None:
    """Seconds until the retry; None for an answer to read. Raises Failure."""
    try:
        step = plan.send(answer)
    except StopIteration:
        return None
    assert isinstance(step, Sleep)
    return step.seconds


def message(method: Method, line: str) -> Message:
    """The message of a line. Raises the Failure with which the server ended the stream."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise Failure("unavailable", "the stream ended in the middle of a message") from None
    if isinstance(found, dict) and found.keys() == {"error"} and isinstance(found["error"], dict):
        raise of_problem(int(found["error"].get("status", 0)), orjson.dumps(found["error"]), {})
    return decode(method.gives, line.encode())
