"""Refusals under overload, and how long a request may wait before."""

import math
import random

from services.kit.errors import Code, DeadlineExceeded, Failure

_TIMES, _SHORTEST = 4.0, 0.25  # times a typical call, and seconds: the larger of both


def overloaded(what: str) -> Failure:
    """Too many wait already. The delay is random, so that not all of them come again at the same time."""
    return Failure(Code.OVERLOADED, f"{what} has too many requests waiting", retry_after=1 + random.random())


def hopeless(what: str) -> DeadlineExceeded:
    """The time that is left is shorter than what most calls take."""
    return DeadlineExceeded(f"{what} takes longer than the time that is left")


def stale_at(now: float, typical: float) -> float:
    """Until when a request waits in a queue that is half full, where a call takes `typical` seconds; 0: not known."""
    return now + max(_SHORTEST, _TIMES * typical) if typical else math.inf
