"""What travels, and when it is tried again: the same plan for the client that blocks and the one that does not.

A plan is a generator: it yields what to do next (send, sleep) and is given what came of it. It opens no socket.
"""

import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from aimass.failures import Failure, of_problem

T = TypeVar("T")
_FIRST, _LONGEST = 0.1, 5.0  # seconds between tries
_AGAIN = (429, 503)
_NEVER = ("quota_exceeded",)  # a budget does not grow while one waits


@dataclass(frozen=True)
class Send:
    """A request to be sent; `seconds` is how long its answer may take."""

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
    """What came back; `headers` are looked up in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Unreachable(Exception):
    """The request got no answer: raised into a plan by what drives it. `late`: its time was over."""

    def __init__(self, why: str, late: bool = False) -> None:
        super().__init__(why)
        self.late = late


Plan = Generator[Send | Sleep, Answer, T]


def exchange(send: Send, budget: float) -> Plan[Answer]:
    """Sends until there is an answer that is not a plea to come back, for at most `budget` seconds. Raises Failure.

    Only for requests whose second try does no harm; all of the contract's are safe, idempotent or carry a key.
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
        # Full jitter, so that many clients who failed together do not come back together.
        pause = max(random.uniform(0, wait), failure.retry_after or 0.0)
        if time.monotonic() + pause >= end:
            raise failure
        yield Sleep(pause)
        wait = min(wait * 2, _LONGEST)
