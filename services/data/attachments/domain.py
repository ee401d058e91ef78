"""What became of the files that columns name: kept by digest, or not and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """`refused`: another try would not change it; `failed`: one may."""

    KEPT = "kept"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of one place. A reason tells nothing of the place: it stands in a column that may be seen."""

    state: State
    reason: str = ""
    digest: str = ""
    bytes: int = 0
    media_type: str = ""

    def to_json(self) -> dict[str, Any]:
        """For a file, and for another process."""
        return asdict(self)

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "Outcome":
        """What `to_json` wrote; other fields are others'."""
        return cls(State(said["state"]), said["reason"], said["digest"], said["bytes"], said["media_type"])


@dataclass(frozen=True)
class Attached:
    """A place that a column of a data set names, with what became of it in a run."""

    data_set: str
    column: str
    # The column with the digests. Who does not see one of the two sees neither the place nor the file.
    digests: str
    origin: str
    outcome: Outcome


@dataclass(frozen=True)
class Attachment:
    """The same as it stands."""

    attached: Attached
    extraction: str
    update_time: datetime


@dataclass(frozen=True)
class Kept:
    """A file that a data set has, by a column with places and that with their digests."""

    digest: str
    bytes: int
    media_type: str
    column: str
    digests: str
    create_time: datetime
