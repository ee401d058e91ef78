"""The child of an extraction: reads what is new in a source, writes typed rows and broken records as Parquet files."""

import gc
import hashlib
import math
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.data.datasets import parquet, statistics
from services.data.datasets.parquet import Writer, quarantine_writer
from services.data.datasets.statistics import Statistics
from services.data.extractions import domain
from services.data.extractions.domain import HEAD, FileState, FoundFile, Start
from services.data.reading import extractor, folders, lines, samples, sqlite, vectors
from services.data.reading.extractor import Extractor
from services.data.reading.kinds import Compiled, FilesSource, SqlSource, compiled_from_json, source_from_json
from services.data.reading.places import Place
from services.data.schema import Column
from services.kit.child import Child, Json
from services.kit.disk import on_disk
from services.kit.errors import FailedPrecondition

_PAGE = 32_768  # records that are typed together
_TELL = 0.25  # seconds between two words on progress


def main(request: Json, child: Child) -> Json:
    """Reads from `cursor` on; returns files, counts by reason, statistics, and the cursor of the next run."""
    gc.disable()  # nothing here makes cycles, and looking for them costs a third of the time
    with on_disk():
        return _extract(request, child)


def _extract(request: Json, child: Child) -> Json:
    source, place = source_from_json(request["source"]), Place.from_json(request["place"])
    compiled = compiled_from_json(request["compiled"])
    sink = Sink(Path(request["folder"]), compiled, child)
    cursor = request["cursor"] or {}
    if isinstance(source, SqlSource):
        cursor = _read_table(source, place, compiled, cursor, sink, request["seconds"])
        return {**sink.close(), "cursor": cursor, "notes": []}
    cursor, notes = _read_files(source, place, compiled, cursor, sink)
    return {**sink.close(), "cursor": cursor, "notes": notes}


class Sink:
    """Takes records and keeps rows, broken records, statistics and counts."""

    def __init__(self, folder: Path, compiled: Compiled, child: Child) -> None:
        self._folder = folder
        self._columns = tuple(Column(c.name, c.type, not c.required) for c in compiled.columns)
        # Made when they are needed: Arrow takes longer to load than it takes to see that there is nothing new.
        self._writer: Writer | None = None
        self._quarantine: Writer | None = None
        self._statistics = Statistics(self._columns)
        self._counts = Counter[str]()
        self._broken: list[tuple[str, str, str]] = []
        self._child, self._told = child, time.monotonic()
        self.records = 0

    def take(self, ready: Extractor, records: Sequence[Any], origins: Sequence[str], fields: Sequence[str]) -> None:
        """Types a batch of records, all of one part."""
        if not records:
            return
        import pyarrow as pa

        self.records += len(records)
        typed = vectors.extract(ready, records)
        names = [column.name for column in self._columns]
        tables = [pa.Table.from_arrays(arrays, names=names) for arrays in typed.pieces]
        if tables:
            table = pa.concat_tables(tables)
            self._writer = self._writer or Writer(self._folder, self._columns)
            self._writer.write(table)
            self._statistics.add(table)
        for index, reason in typed.refused:
            self._refuse(lines.text_of(records[index], fields), reason, origins[index])

    def take_broken(self, broken: Sequence[tuple[int, str, str]], part: str) -> None:
        """Keeps what is no record."""
        self.records += len(broken)
        for number, text, reason in broken:
            self._refuse(text, reason, f"{part}:{number}")

    def _refuse(self, text: str, reason: str, origin: str) -> None:
        self._counts[reason] += 1
        self._broken.append((text, reason, origin))
        if len(self._broken) >= 1000:
            self._write_broken()

    def _write_broken(self) -> None:
        if not self._broken:
            return
        import pyarrow as pa

        self._quarantine = self._quarantine or quarantine_writer(self._folder)
        names = [column.name for column in self._quarantine.columns]
        values = [pa.array(column, pa.string()) for column in zip(*self._broken, strict=True)]
        self._quarantine.write(pa.Table.from_arrays(values, names=names))
        self._broken.clear()

    def tell(self, fraction: float) -> None:
        """Says how far the work is, not too often."""
        if time.monotonic() - self._told > _TELL:
            self._told = time.monotonic()
            self._child.progress({"records": self.records, "fraction": min(max(fraction, 0.0), 1.0)})

    def close(self) -> Json:
        """What was kept."""
        self._write_broken()
        return {
            "files": parquet.to_json(self._writer.close() if self._writer else ()),
            "quarantine": parquet.to_json(self._quarantine.close() if self._quarantine else ()),
            "quarantined": dict(self._counts),
            "statistics": statistics.to_json(self._statistics.result()),
            "records": self.records,
        }


def _read_table(source: SqlSource, place: Place, compiled: Compiled, cursor: Json, sink: Sink, seconds: float) -> Json:
    fields = [column.name for column in compiled.columns]
    ready = extractor.for_fields(compiled, fields)
    after, first = cursor.get("after"), None
    with sqlite.opened(place.root, place.steps, seconds) as connection:
        sqlite.describe(connection, source)
        sqlite.confine(connection, source.table)
        newest = sqlite.newest(connection, source)
        while rows := sqlite.page(connection, source, compiled.statement, after, _PAGE):
            values = [row[compiled.cursor] for row in rows]
            first = values[0] if first is None else first
            after = _kept(values[-1], source)
            sink.take(ready, rows, [f"{source.table}:{value}" for value in values], fields)
            sink.tell(_fraction(first, after, newest))
            # Rows that are added while we read are for the next run, or this one may never end.
            if len(rows) < _PAGE or after == newest:
                break
    return {"after": after}


def _kept(cursor: Any, source: SqlSource) -> Any:
    """A cursor that survives being written down. Raises failed_precondition: a run after it would read rows twice."""
    if isinstance(cursor, int | str) or (isinstance(cursor, float) and math.isfinite(cursor)):
        return cursor
    raise FailedPrecondition(f"the cursor {source.cursor} of {source.table} holds neither a number nor a text")


def _fraction(first: Any, after: Any, newest: Any) -> float:
    try:
        return float((after - first) / (newest - first))
    except (TypeError, ZeroDivisionError):
        return 0.5


def _read_files(
    source: FilesSource, place: Place, compiled: Compiled, cursor: Json, sink: Sink
) -> tuple[Json, list[str]]:
    before = [FileState(**state) for state in cursor.get("files", [])]
    found = [_find(place, part) for part in folders.matches(place.root, place.steps)]
    todo = domain.starts(found, before)
    total, done = sum(max(file.size - start.offset, 0) for file, start in zip(found, todo, strict=True)), 0
    states = []
    for file, start in zip(found, todo, strict=True):
        state = _read_file(source, place, compiled, start, sink, lambda read, done=done: (done + read) / (total or 1))
        states += [state] if state else []
        done += max(file.size - start.offset, 0)
    notes = [
        f"{start.path} is another file than before and was read from its start" for start in todo if start.replaced
    ]
    return {"files": [asdict(state) for state in domain.remembered(states, before)]}, notes


def _find(place: Place, part: folders.Parts) -> FoundFile:
    def head(size: int) -> str:
        with os.fdopen(folders.open_file(place.root, part), "rb") as file:
            return _head(file, size)

    with os.fdopen(folders.open_file(place.root, part), "rb") as file:
        status = os.fstat(file.fileno())
    return FoundFile("/".join(part), f"{status.st_dev}:{status.st_ino}", status.st_size, head)


def _head(file: Any, size: int) -> str:
    file.seek(0)
    return hashlib.sha256(file.read(size)).hexdigest()


def _read_file(
    source: FilesSource, place: Place, compiled: Compiled, start: Start, sink: Sink, share: Any
) -> FileState | None:
    with os.fdopen(folders.open_file(place.root, tuple(start.path.split("/"))), "rb") as file:
        reader = lines.reader(source, file, start.offset, start.number)
        ready = samples.extractor_for(source, compiled, reader.fields)
        while (batch := reader.read(_PAGE)).size:
            sink.take(ready, batch.records, [f"{start.path}:{number}" for number in batch.numbers], reader.fields)
            sink.take_broken(batch.broken, start.path)
            sink.tell(share(reader.offset - start.offset))
        if not reader.offset:
            return None
        status, size = os.fstat(file.fileno()), min(reader.offset, HEAD)
        inode = f"{status.st_dev}:{status.st_ino}"
        return FileState(start.path, inode, reader.offset, reader.number, _head(file, size), size)
