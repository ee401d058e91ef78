"""Pushed records: the service writes those behind the cursor into a file, for as long as they are read."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from services.data.reading import extractor, folders
from services.data.reading.connector import End, PartLag, Sink
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, PushedSource
from services.data.reading.samples import Sample, Tried, suggested

_PAGE = 8_192  # records that are typed together


class PushedConnector:
    """The cursor is the number of the last record that was read. A line of the file is a number and a record."""

    identity = "pushed"
    apart = False
    reaches: Sequence[tuple[str, int]] = ()

    def __init__(self, source: PushedSource) -> None:
        self._source = source

    def ready(self, compiled: Compiled, fields: Sequence[str]) -> Extractor:
        """What extracts documents."""
        return extractor.of(compiled, (), ())

    def below(self, allowed: Sequence[Path]) -> Place:
        """Nothing of the caller's: the service says where the file is."""
        return Place(Path("/"), ())

    def look(self, place: Place) -> None:
        """It may be empty."""

    def preview(self, place: Place, records: int) -> Sample:
        """The first records, and what the source says of its columns."""
        found = tuple(record for _, record in islice(_lines(place), records))
        said = {column.name: column for column in self._source.columns}
        names = list(dict.fromkeys([*said, *(name for record in found for name in record)]))
        columns = (said.get(name) or suggested(name, [record.get(name) for record in found], set()) for name in names)
        return Sample(found, tuple(columns), ())

    def tries(self, place: Place, compiled: Compiled, records: int) -> Iterator[Tried]:
        """The first records."""
        ready = self.ready(compiled, ())
        for _, record in _lines(place):
            yield Tried(record, ready, ())

    def lag(self, place: Place, cursor: dict[str, Any]) -> Sequence[PartLag] | None:
        """The service knows it, which has the records."""
        return None

    def read(self, place: Place, compiled: Compiled, cursor: dict[str, Any], sink: Sink, seconds: float) -> End:
        """All records of the file; they lie behind the cursor."""
        ready, after = self.ready(compiled, ()), int(cursor.get("after", 0))
        lines = _lines(place)
        while page := list(islice(lines, _PAGE)):
            sink.take(ready, [record for _, record in page], [f"record {number}" for number, _ in page], ())
            after = page[-1][0]
            sink.tell(0.5)
        return End({"after": after})


def _lines(place: Place) -> Iterator[tuple[int, dict[str, Any]]]:
    if not place.steps:
        return
    with os.fdopen(folders.open_file(place.root, place.steps), "rb") as file:
        for line in file:
            number, record = orjson.loads(line)
            yield number, record
