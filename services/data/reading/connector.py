"""Port: a source, and how its kind is read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from services.data.reading.described import Copies
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled
from services.data.reading.samples import Sample, Tried


class Sink(Protocol):
    """Takes what an extraction reads."""

    @property
    def copies(self) -> Copies | None:
        """Takes the bytes of documents; None where they stay where they are."""

    def take(self, ready: Extractor, records: Sequence[Any], origins: Sequence[str], fields: Sequence[str]) -> None:
        """Records of one part; `origins` says where each was."""

    def take_broken(self, broken: Sequence[tuple[int, str, str]], part: str) -> None:
        """What is no record: line, text, reason."""

    def take_refused(self, text: str, reason: str, origin: str) -> None:
        """What was no record when it landed."""

    def tell(self, fraction: float) -> None:
        """How much of the work is done, from 0 to 1."""

    def wait(self, reason: str) -> None:
        """The source is away, and the work waits for it."""


class End(NamedTuple):
    """Where the next extraction begins, as JSON, and what people should know."""

    cursor: dict[str, Any]
    notes: Sequence[str] = ()


class PartLag(NamedTuple):
    """Where the next extraction begins in a part of a source, and where the part ends now."""

    part: str
    position: int
    end: int
    # What lies in between, where the numbers do not say it.
    counted: int | None = None

    @property
    def lag(self) -> int:
        """Records in between; of files, bytes."""
        return max(self.end - self.position, 0) if self.counted is None else self.counted


class Connector(Protocol):
    """Made of a source's definition; opens nothing before it is asked."""

    @property
    def identity(self) -> str:
        """What a cursor belongs to: a source that becomes another is read from its start."""

    @property
    def reaches(self) -> Sequence[tuple[str, int]]:
        """Host and port of the servers that it may be read from; none for what lies on this machine."""

    @property
    def apart(self) -> bool:
        """Whether only a child process may open it."""

    def ready(self, compiled: Compiled, fields: Sequence[str]) -> Extractor:
        """What extracts records with these fields."""

    def below(self, allowed: Sequence[Path]) -> Place:
        """Where it lies below the folders of its tenant. Opens nothing. Raises invalid_value, egress_denied."""

    def look(self, place: Place) -> object:
        """Opens it. Raises invalid_value with the reason why not."""

    def preview(self, place: Place, records: int) -> Sample:
        """The first records as they are. Raises invalid_value, limit_exceeded."""

    def tries(self, place: Place, compiled: Compiled, records: int) -> Iterator[Tried]:
        """The first records with what extracts them. Raises invalid_value, limit_exceeded."""

    def read(self, place: Place, compiled: Compiled, cursor: dict[str, Any], sink: Sink, seconds: float) -> End:
        """All that lies behind a cursor; an empty one is the start. Runs in a child process."""

    def lag(self, place: Place, cursor: dict[str, Any]) -> Sequence[PartLag] | None:
        """Records or bytes behind a cursor; None where they are not known. Raises unavailable, and as `look`."""
