"""The substitutes of a version, as its serving settings say, in the order in which they are tried."""

from dataclasses import dataclass
from enum import StrEnum

from services.kit.errors import Code

# Failures of a version that a substitute may answer.
AWAY = (Code.OVERLOADED, Code.UNAVAILABLE)


class Step(StrEnum):
    """What answers instead, in the order in which it is tried; named so in replies, the access log and metrics."""

    CACHED = "cached"
    PREVIOUS = "previous-version"
    SMALLER = "smaller-model"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Ladder:
    """The steps of a version. Without any it is false."""

    # Seconds for which answers are kept; 0: none are.
    cached_seconds: int = 0
    previous_version: bool = False
    # Empty: none.
    smaller_model: str = ""

    def __bool__(self) -> bool:
        return bool(self.cached_seconds or self.previous_version or self.smaller_model)


NO_LADDER = Ladder()
