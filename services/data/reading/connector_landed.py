"""Records that landed, read again instead of their source: the same records in the same order give the same rows."""

import math
import time
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from services.data.reading import landed, lines, samples
from services.data.reading.connector import Connector, End, PartLag, Sink
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.formats import Records
from services.data.reading.kinds import Compiled, SqlSource
from services.data.reading.landed import KINDS, LandedRecords
from services.data.reading.landed_rows import Rows
from services.data.reading.samples import Sample, Tried, suggested
from services.kit.errors import Code, Failure

_PAGE, _BYTES = 8_192, 8 * 2**20  # records that are typed together, whatever files they are in, and their characters
_DECODED = 1024  # rows of a file that are decoded at once
_READ = ("number", "record", "origin", "kind", "reason")


class _Row(NamedTuple):
    number: int
    record: str
    origin: str
    kind: str
    reason: str | None


class _Part(NamedTuple):
    """Records of a page that have the same fields, or are no records: then `broken` says why."""

    records: list[Any]
    origins: list[str]
    fields: tuple[str, ...]
    broken: list[tuple[str, str]]


class LandedConnector:
    """What landed; the cursor is the number of the last record that was read."""

    identity = "warehouse"
    apart = True  # Parquet is parsed in children only
    reaches: Sequence[tuple[str, int]] = ()

    def __init__(self, landed_records: LandedRecords, reader: Connector) -> None:
        """`reader` is what reads the source itself."""
        self._landed, self._reader = landed_records, reader
        self._kind = KINDS[landed_records.source.records]

    def ready(self, compiled: Compiled, fields: Sequence[str]) -> Extractor:
        """As for records of the source."""
        return self._reader.ready(compiled, fields)

    def below(self, allowed: Sequence[Path]) -> Place:
        """Nothing of the caller's: the service says where the files are."""
        return Place(Path("/"), ())

    def look(self, place: Place) -> None:
        """It is there."""

    def preview(self, place: Place, records: int) -> Sample:
        """The first records."""
        missing = set(getattr(self._landed.source, "null_values", ())) | {""}
        found = list(islice(self._named(place), records))
        given = dict[str, list[Any]]()
        for record in found:
            for name, value in record.items():
                given.setdefault(name, []).append(value)
        texts = missing if self._landed.source.records is Records.FIELDS else set()
        columns = (
            suggested(name, values if len(values) == len(found) else [*values, None], texts)
            for name, values in given.items()
        )
        return Sample(tuple(found), tuple(columns), ())

    def _named(self, place: Place) -> Iterator[dict[str, Any]]:
        for page in _bounded(self._pages(place)):
            for part in self._parts(page):
                for record in part.records:
                    if isinstance(record, str):
                        yield {"line": record}
                    else:
                        yield dict(zip(part.fields, record, strict=True)) if part.fields else record

    def tries(self, place: Place, compiled: Compiled, records: int) -> Iterator[Tried]:
        """The first records, and what is no record."""
        for page in _bounded(self._pages(place)):
            for part in self._parts(page):
                made, _, fields = self._made(compiled, part)
                ready = self.ready(compiled, fields)
                for record in made:
                    yield Tried(record, ready, fields)
                for text, reason in part.broken:
                    yield Tried(None, ready, (), text, reason)

    def lag(self, place: Place, cursor: dict[str, Any]) -> Sequence[PartLag] | None:
        """That of the source is asked of the source."""
        return None

    def read(self, place: Place, compiled: Compiled, cursor: dict[str, Any], sink: Sink, seconds: float) -> End:
        """The records of the range; the cursor is that of who asks, and says nothing more.

        Where a part is enough, it ends when half of the seconds are over: what was read is written in the other half.
        """
        after, upto, ready = self._landed.after, self._landed.upto, dict[tuple[str, ...], Extractor]()
        until = time.monotonic() + seconds / 2 if self._landed.partly else math.inf
        for page in self._pages(place):
            for part in self._parts(page):
                if part.broken:
                    _put_aside(part, sink)
                    continue
                records, origins, fields = self._made(compiled, part)
                if (names := tuple(fields)) not in ready:
                    ready[names] = self.ready(compiled, fields)
                sink.take(ready[names], records, origins, fields)
            sink.tell((page[-1].number - after) / max(upto - after, 1))
            if time.monotonic() > until:
                return End({"landed": page[-1].number})
        return End({"landed": upto})

    def _made(self, compiled: Compiled, part: _Part) -> tuple[Sequence[Any], Sequence[str], Sequence[str]]:
        """The records that a rule is offered, their origins and fields: of a table, what its statement selects."""
        source = self._landed.source
        if not isinstance(source, SqlSource) or not part.records:
            return part.records, part.origins, part.fields
        rows = Rows(source, self._landed.shape).select(compiled, part.fields, part.records, part.origins)
        return [row for row, _ in rows], [origin for _, origin in rows], [column.name for column in compiled.columns]

    def _parts(self, page: Sequence[_Row]) -> Iterator[_Part]:
        """In their order."""
        for is_broken, rows in groupby(page, lambda row: row.reason is not None or row.kind != self._kind):
            if is_broken:
                there = list(rows)
                broken = [(lines.text_of(row.record, ()), self._why(row)) for row in there]
                yield _Part([], [row.origin for row in there], (), broken)
                continue
            opened = [(landed.unpacked(row.record, row.kind), row.origin) for row in rows]
            for fields, same in groupby(opened, lambda one: one[0][1]):
                pairs = [(record, origin) for (record, _), origin in same]
                yield _Part([record for record, _ in pairs], [origin for _, origin in pairs], fields, [])

    def _why(self, row: _Row) -> str:
        return row.reason or f"it landed as a {row.kind}, and the source has records of kind {self._kind} now"

    def _pages(self, place: Place) -> Iterator[Sequence[_Row]]:
        page, size = list[_Row](), 0
        for row in self._rows(place):
            page.append(row)
            size += len(row.record)
            if len(page) == _PAGE or size >= _BYTES:
                yield page
                page, size = [], 0
        if page:
            yield page

    def _rows(self, place: Place) -> Iterator[_Row]:
        import pyarrow.parquet as pq

        after, upto = self._landed.after, self._landed.upto
        for name in self._landed.files:
            with pq.ParquetFile(place.root / name, pre_buffer=False) as file:
                for batch in _decoded(file):
                    columns = [batch.column(column).to_pylist() for column in _READ]
                    for row in map(_Row._make, zip(*columns, strict=True)):
                        if after < row.number <= upto:
                            yield row


def _decoded(file: Any) -> Iterator[Any]:
    """Group by group: they are as small as their records are large."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(_DECODED, row_groups=[group], columns=list(_READ), use_threads=False)


def _put_aside(part: _Part, sink: Sink) -> None:
    for (text, reason), origin in zip(part.broken, part.origins, strict=True):
        sink.take_refused(text, reason, origin)


def _bounded(pages: Iterator[Sequence[_Row]]) -> Iterator[Sequence[_Row]]:
    """Of a sample: as long as it may take."""
    deadline = time.monotonic() + samples.SECONDS
    for page in pages:
        yield page
        if time.monotonic() > deadline:
            raise Failure(Code.LIMIT_EXCEEDED, "reading the sample takes too long")
