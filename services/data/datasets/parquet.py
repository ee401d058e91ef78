"""Writes rows to Parquet files that can be committed: synced, of bounded size, with their digests. For children."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from services.data.arrow import arrow_schema, fit
from services.data.datasets.domain import QUARANTINE, WrittenFile
from services.data.schema import Column
from services.kit.disk import sync

ROW_GROUP = 8_192  # rows that a reader of one page has to decode
ROWS_OF_FILE = 128 * ROW_GROUP


class Writer:
    """Writes tables into a run's folder, in order. The files lie there when `close` returns, also after a power cut."""

    def __init__(self, folder: Path, columns: tuple[Column, ...], name: str = "part") -> None:
        self._folder, self.columns, self._name = folder, columns, name
        self._schema = arrow_schema(columns)
        self._waiting: list[Any] = []
        self._count = 0
        self._file: Any = None
        self._file_rows = 0
        self._written: list[WrittenFile] = []

    def write(self, table: Any) -> None:
        """Adds the rows of an Arrow table, cast to the columns. Raises failed_precondition as `fit` does."""
        if table.num_rows == 0:
            return
        self._waiting.append(fit(table, self.columns))
        self._count += table.num_rows
        if self._count >= ROW_GROUP:
            self._flush(self._count - self._count % ROW_GROUP)

    def spill(self) -> None:
        """Writes the rows that wait, though they fill no row group."""
        self._flush(self._count)

    def close(self) -> tuple[WrittenFile, ...]:
        """Ends the files. No rows, no files."""
        self._flush(self._count)
        self._end_file()
        sync(self._folder)
        return tuple(self._written)

    def _flush(self, rows: int) -> None:
        """Writes as many of the waiting rows, in full row groups but the last."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not rows:
            return
        table = pa.concat_tables(self._waiting)
        self._waiting, self._count = [table.slice(rows)], self._count - rows
        for start in range(0, rows, ROW_GROUP):
            if self._file is None:
                self._file = pq.ParquetWriter(self._path(), self._schema, compression="zstd", compression_level=1)
            piece = table.slice(start, min(ROW_GROUP, rows - start))
            self._file.write_table(piece, row_group_size=ROW_GROUP)
            self._file_rows += piece.num_rows
            if self._file_rows >= ROWS_OF_FILE:
                self._end_file()

    def _path(self) -> Path:
        return self._folder / f"{self._name}-{len(self._written):05d}.parquet"

    def _end_file(self) -> None:
        if self._file is None:
            return
        self._file.close()
        path, rows = self._path(), self._file_rows
        self._file, self._file_rows = None, 0
        self._written.append(written(path, rows))


def quarantine_writer(folder: Path) -> Writer:
    """For a quarantine: columns record, reason and origin, all text. The underscore hides the files from Delta."""
    return Writer(folder, QUARANTINE, "_quarantine")


def written(path: Path, rows: int) -> WrittenFile:
    """A file of a run's folder as it is handed to `commit`; syncs it."""
    sync(path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return WrittenFile(f"{path.parent.name}/{path.name}", rows, path.stat().st_size, f"sha256:{digest}")


def to_json(files: Iterable[WrittenFile]) -> list[dict[str, Any]]:
    """As they cross from a child to its parent."""
    return [vars(file) for file in files]


def from_json(files: Iterable[dict[str, Any]]) -> tuple[WrittenFile, ...]:
    """What `to_json` was given."""
    return tuple(WrittenFile(**file) for file in files)
