"""The child of an extraction: reads what is new in a source, writes typed rows and broken records as Parquet files."""

import gc
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.data.datasets import parquet, statistics
from services.data.datasets.parquet import Writer, quarantine_writer
from services.data.datasets.statistics import Statistics
from services.data.reading import lines, vectors
from services.data.reading.connectors import connector
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, compiled_from_json, source_from_json
from services.kit.child import Child, Json
from services.kit.disk import on_disk

_TELL = 0.25  # seconds between two words on progress


def main(request: Json, child: Child) -> Json:
    """Reads from `cursor` on; returns files, counts by reason, statistics, and the cursor of the next run."""
    gc.disable()  # nothing here makes cycles, and looking for them costs a third of the time
    with on_disk():
        return _extract(request, child)


def _extract(request: Json, child: Child) -> Json:
    place, compiled = Place.from_json(request["place"]), compiled_from_json(request["compiled"])
    sink = Sink(Path(request["folder"]), compiled, child)
    source = connector(source_from_json(request["source"]))
    end = source.read(place, compiled, request["cursor"] or {}, sink, request["seconds"])
    return {**sink.close(), **end._asdict()}


class Sink:
    """Takes records and keeps rows, broken records, statistics and counts."""

    def __init__(self, folder: Path, compiled: Compiled, child: Child) -> None:
        self._folder = folder
        self._columns = compiled.schema
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
