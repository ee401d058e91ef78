"""Requests and their retries, for both clients.

A plan is a generator without I/O: it yields what to do next (`Send` or `Sleep`), is sent the answer, and returns its
result.
"""

import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from aimass.failures import Failure, of_problem

T = TypeVar("T")
_FIRST, _LONGEST = 0.1, 5.0  # seconds between attempts
_AGAIN = (429, 503)
_NEVER = ("quota_exceeded",)  # waiting does not help


@dataclass(frozen=True)
class Send:
    """A request to send; its answer may take `seconds`."""

    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    seconds: float = 10.0


@dataclass(frozen=True)
class Sleep:
    """A pause."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """An answer; the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Unreachable(Exception):
    """There was no answer. It is thrown into the plan. `late`: the time was over."""

    def __init__(self, why: str, late: bool = False) -> None:
        super().__init__(why)
        self.late = late


Plan = Generator[Send | Sleep, Answer, T]


def exchange(send: Send, budget: float) -> Plan[Answer]:
    """Sends a request, and again while it is refused for now or not answered, for at most `budget` seconds.

    Only for requests that may be repeated; those of the contract are safe, idempotent or carry an idempotency key.
    Raises Failure.
    """
    end, wait = time.monotonic() + budget, _FIRST
    while True:
        left = max(end - time.monotonic(), 0.001)
        try:
            answer = yield Send(**{**send.__dict__, "seconds": min(send.seconds, left)})
            if answer.status < 400:
                return answer
            failure = of_problem(answer.status, answer.content, answer.headers)
            if answer.status not in _AGAIN or failure.code in _NEVER:
                raise failure
        except Unreachable as error:
            failure = Failure("deadline_exceeded" if error.late else "unavailable", str(error), retry_after=None)
        # Full jitter, so that clients that failed together do not retry together.
        pause = max(random.uniform(0, wait), failure.retry_after or 0.0)
        if time.monotonic() + pause >= end:
            raise failure
        yield Sleep(pause)
        wait = min(wait * 2, _LONGEST)
