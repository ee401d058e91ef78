"""The first records of a source, for previews and tests of rules: bounded in records, bytes and time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.data.reading import lines
from services.data.reading.extractor import Extractor
from services.data.reading.kinds import FilesSource
from services.data.reading.values import guess
from services.data.schema import Column

SECONDS = 10.0  # that looking at a source may take


@dataclass(frozen=True)
class Sample:
    """Records by field, what they suggest, and the parts of the source."""

    records: tuple[dict[str, Any], ...]
    columns: tuple[Column, ...]
    parts: tuple[str, ...]
    # How files seem to be written, where they are described otherwise.
    suggested: FilesSource | None = None


@dataclass(frozen=True)
class Tried:
    """A record and the part's extractor for it; `reason` is set for what is no record."""

    record: Any
    extractor: Extractor
    fields: Sequence[str]
    text: str = ""
    reason: str = ""

    def shown(self) -> str:
        """The record for people."""
        return self.text or lines.text_of(self.record, self.fields)


def suggested(name: str, values: Sequence[Any], missing: set[str]) -> Column:
    """The column that fits some values; `missing` are texts that mean none."""
    there = [v for v in values if v is not None and not (isinstance(v, str) and v in missing)]
    return Column(name, guess(there), len(there) < len(values))
