"""Answers that go on: bytes, or one message after the other."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import orjson
from google.protobuf.message import Message

from aimass.connection import named, request_of
from aimass.contract import Method
from aimass.encoding import decode
from aimass.exchange import Send, Unreachable
from aimass.failures import Failure, of_problem

NDJSON = "application/x-ndjson"


@contextmanager
def read(url: str) -> Iterator[None]:
    """Turns a connection that breaks in the middle into a Failure `unavailable`."""
    try:
        with named(url):
            yield
    except Unreachable as error:
        raise Failure("deadline_exceeded" if error.late else "unavailable", str(error)) from None


@contextmanager
def opened(http: Any, url: str, send: Send) -> Iterator[Any]:
    """A response that is read as it comes. Raises Failure when it is none."""
    with read(url), http.stream(**request_of(send)) as response:
        if response.status_code >= 400:
            raise of_problem(response.status_code, response.read(), response.headers)
        yield response


@asynccontextmanager
async def opened_async(http: Any, url: str, send: Send) -> AsyncIterator[Any]:
    """The same for the client that does not block."""
    with read(url):
        async with http.stream(**request_of(send)) as response:
            if response.status_code >= 400:
                raise of_problem(response.status_code, await response.aread(), response.headers)
            yield response


def message(method: Method, line: str) -> Message:
    """One line of a stream. Raises the Failure that the server ended the stream with."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise Failure("unavailable", "the stream broke off in the middle of a message") from None
    if isinstance(found, dict) and found.keys() == {"error"} and isinstance(found["error"], dict):
        raise of_problem(int(found["error"].get("status", 0)), orjson.dumps(found["error"]), {})
    return decode(method.gives, line.encode())
