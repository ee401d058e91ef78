"""What is said to who is not served because there is too much to do, and how long anybody waits before."""

import math
import random

from services.kit.errors import Code, DeadlineExceeded, Failure

_TIMES, _SHORTEST = 4.0, 0.25  # what a call takes, and seconds: the more of both


def overloaded(what: str) -> Failure:
    """Too many wait already. Not all of them are asked to come again at the same time."""
    return Failure(Code.OVERLOADED, f"{what} has too many requests waiting", retry_after=1 + random.random())


def hopeless(what: str) -> DeadlineExceeded:
    """The time that is left is shorter than what most calls take."""
    return DeadlineExceeded(f"{what} takes longer than the time that is left")


def stale_at(now: float, typical: float) -> float:
    """Until when somebody waits in a line that is half full, where a call takes `typical` seconds; 0: nobody knows."""
    return now + max(_SHORTEST, _TIMES * typical) if typical else math.inf
