"""What the sinks of extractions have in common: tables of rows, the quarantine, and words on progress."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from services.data.attachments.attaching import Attaching
from services.data.datasets import parquet, statistics
from services.data.datasets.parquet import Writer, quarantine_writer
from services.data.datasets.statistics import Statistics
from services.data.reading.connector import End
from services.data.reading.described import Copies
from services.data.reading.kinds import Compiled
from services.data.reading.vectors import Typed
from services.data.schema import Column
from services.kit.child import Child, Json

_TELL = 0.25  # seconds between two words on progress
_TOGETHER = 1000  # quarantined records that are written together


class Table:
    """The rows of one data set: files, statistics, and how many there are."""

    def __init__(self, folder: Path, columns: tuple[Column, ...], complete: Callable[[Any], Any] | None = None) -> None:
        """`complete` adds to an Arrow table of what a rule made the columns that the rule does not make."""
        self._folder, self._columns, self._complete = folder, columns, complete
        # Made when it is needed: Arrow takes longer to load than it takes to see that there is nothing new.
        self._writer: Writer | None = None
        self._statistics = Statistics(columns)
        self.rows = 0

    def write(self, table: Any) -> None:
        """Adds an Arrow table."""
        self._writer = self._writer or Writer(self._folder, self._columns)
        self._writer.write(table)
        self._statistics.add(table)
        self.rows += table.num_rows

    def spill(self) -> None:
        """Writes the rows that wait for more."""
        if self._writer:
            self._writer.spill()

    def take(self, typed: Typed) -> None:
        """Adds the rows that a rule made."""
        import pyarrow as pa

        names = [column.name for column in self._columns]
        if typed.pieces:
            own = [pa.Table.from_arrays(arrays, names=names[: len(arrays)]) for arrays in typed.pieces]
            made = pa.concat_tables(own)
            self.write(self._complete(made) if self._complete else made)

    def close(self) -> Json:
        """Its files, which lie there for good."""
        files = parquet.to_json(self._writer.close() if self._writer else ())
        return {"files": files, "statistics": statistics.to_json(self._statistics.result()), "rows": self.rows}


class Aside:
    """The quarantine of a run: keeps records as files, and counts them by reason."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Writer | None = None
        self._counts = Counter[str]()
        self._waiting: list[tuple[str, str, str]] = []

    def put(self, text: str, reason: str, origin: str) -> None:
        """Keeps a record, why, and where it was."""
        self._counts[reason] += 1
        self._waiting.append((text, reason, origin))
        if len(self._waiting) >= _TOGETHER:
            self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        import pyarrow as pa

        self._writer = self._writer or quarantine_writer(self._folder)
        names = [column.name for column in self._writer.columns]
        values = [pa.array(column, pa.string()) for column in zip(*self._waiting, strict=True)]
        self._writer.write(pa.Table.from_arrays(values, names=names))
        self._waiting.clear()

    def close(self) -> Json:
        """Its files, which lie there for good, and the counts."""
        self._write()
        files = parquet.to_json(self._writer.close() if self._writer else ())
        return {"quarantine": files, "quarantined": dict(self._counts)}


class Teller:
    """Says how far an extraction is, not too often."""

    def __init__(self, child: Child) -> None:
        self._child, self._told, self._fraction = child, time.monotonic(), 0.0

    def tell(self, records: int, fraction: float) -> None:
        """How many records were read, and how much of the work is done, from 0 to 1."""
        if time.monotonic() - self._told > _TELL:
            self._told = time.monotonic()
            self._fraction = min(max(fraction, 0.0), 1.0)
            self._child.progress({"records": records, "fraction": self._fraction})

    def fetched(self, records: int, files: int) -> None:
        """How many files are done, which records wait for."""
        if time.monotonic() - self._told > _TELL:
            self._told = time.monotonic()
            self._child.progress({"records": records, "fraction": self._fraction, "files": files})

    def wait(self, records: int, reason: str) -> None:
        """That the source is away, each time."""
        self._child.progress({"records": records, "fraction": self._fraction, "waits": reason})


class Counting:
    """A sink that counts records, quarantines what is no record, and says how far it is."""

    def __init__(self, folder: Path, child: Child, attach: Json | None = None) -> None:
        """`attach`: what `Keeping` asks of a run whose rules download files."""
        self._aside, self._teller = Aside(folder), Teller(child)
        self._attaching = Attaching.of(attach, self._fetched) if attach else None
        self.records = 0

    @property
    def copies(self) -> Copies | None:
        """Takes the bytes of documents, if a rule keeps them."""
        return self._attaching.documents if self._attaching else None

    def table(self, folder: Path, compiled: Compiled, number: int = 0) -> Table:
        """A table for the rows of a rule, with what becomes of its downloads."""
        adds = self._attaching.adds(number, compiled) if self._attaching else None
        return Table(folder, compiled.schema, adds.to if adds else None)

    def ended(self, end: End) -> Json:
        """Where the next run begins, and what people should know, also of files."""
        notes = self._attaching.close() if self._attaching else []
        return {"cursor": end.cursor, "notes": [*end.notes, *notes]}

    def _fetched(self, files: int) -> None:
        """Says how many files were fetched for the records, not too often."""
        self._teller.fetched(self.records, files)

    def take_broken(self, broken: Sequence[tuple[int, str, str]], part: str) -> None:
        """Keeps what is no record."""
        self.records += len(broken)
        for number, text, reason in broken:
            self._aside.put(text, reason, f"{part}:{number}")

    def take_refused(self, text: str, reason: str, origin: str) -> None:
        """Keeps what was no record when it landed."""
        self.records += 1
        self._aside.put(text, reason, origin)

    def tell(self, fraction: float) -> None:
        """Says how far the work is, not too often."""
        self._teller.tell(self.records, fraction)

    def wait(self, reason: str) -> None:
        """Says that the source is away."""
        self._teller.wait(self.records, reason)
