"""Files that are read as a whole: JSON documents and Parquet. `number` is what has been handed out: records."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import orjson

from services.data.reading.batches import Batch
from services.data.reading.lines import is_deep
from services.kit.errors import Code, FailedPrecondition, Failure

_LONGEST = 64 * 2**20  # bytes of a JSON document
_ROWS = 4096  # of a Parquet file that are decoded together
_JSON = ["is_boolean", "is_integer", "is_floating", "is_string", "is_large_string", "is_string_view", "is_null"]
_HEXED = ["is_binary", "is_large_binary", "is_fixed_size_binary", "is_binary_view"]
_TEXTS = ["is_date", "is_decimal", "is_time"]


class Unfinished(FailedPrecondition):
    """A file whose end is missing: it is being written, or was cut."""


class Documents:
    """The elements of an array, or one object. `digest` is of all records up to `number`."""

    fields: Sequence[str] = ()

    def __init__(self, file: BinaryIO, number: int, digest: str) -> None:
        """Begins behind what was read before, if that is still how the document begins; else at its start."""
        file.seek(0)
        raw = file.read(_LONGEST + 1)
        if len(raw) > _LONGEST:
            raise Failure(Code.LIMIT_EXCEEDED, "a JSON document has at most 64 MiB: write larger ones as JSON lines")
        self.offset, self._broken = len(raw), ""
        self._records = self._parsed(raw)
        self._text = "" if self._records else raw[:8192].decode(errors="replace")
        self._digest = hashlib.sha256()
        for record in self._records[:number]:
            self._digest.update(orjson.dumps(record))
        self.number = number
        self.replaced = bool(number) and (number > len(self._records) or self.digest != digest)
        if self.replaced:
            self.number, self._digest = 0, hashlib.sha256()

    def _parsed(self, raw: bytes) -> list[Any]:
        if not raw.strip():
            return []
        try:
            document = orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
        except orjson.JSONDecodeError:
            self._broken = "the file is not a JSON document"
            return []
        return document if isinstance(document, list) else [document]

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def read(self, records: int, size: int = 8 * 2**20) -> Batch:
        """The next records, at most so many; an empty batch at the end."""
        batch, begin, taken = Batch(), self.number, 0
        if self._broken:
            batch.refuse(1, self._text, self._broken)
            self._broken = ""
        for record in self._records[begin : begin + records - batch.size]:
            written = orjson.dumps(record)
            self._digest.update(written)
            self.number, taken = self.number + 1, taken + len(written)
            if not isinstance(record, dict):
                batch.refuse(self.number, json.dumps(record), "the element is not a JSON object")
            elif is_deep(written.decode(), record):
                batch.refuse(self.number, written.decode(), "the element nests too deeply")
            else:
                batch.take(self.number, record)
            if taken > size:
                break
        return batch


class Rows:
    """The rows of a Parquet file; what JSON has no value for is text, and what is nested is JSON as text."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises failed_precondition for what is no Parquet file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.offset = file.seek(0, 2)
        file.seek(max(self.offset - 4, 0))
        if file.read(4) != b"PAR1":
            raise Unfinished("the file is not a Parquet file, or not complete")
        file.seek(0)
        try:
            self._file = pq.ParquetFile(file, pre_buffer=False)
            self.fields: Sequence[str] = self._file.schema_arrow.names
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise FailedPrecondition(f"the file is not a Parquet file: {str(error)[:200]}") from None
        if len(set(self.fields)) < len(self.fields):
            raise FailedPrecondition("the Parquet file names a column twice")
        self.number, self.replaced, self.digest = 0, False, ""
        self._rows = self._decoded()

    def _decoded(self) -> Iterator[tuple[Any, ...]]:
        import pyarrow as pa

        try:
            for batch in self._file.iter_batches(batch_size=_ROWS, use_threads=False):
                yield from zip(*(_plain(column) for column in batch.columns), strict=True)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            text = f"the Parquet file cannot be read: {str(error)[:200]}: replace it or remove it"
            raise FailedPrecondition(text) from None

    def read(self, records: int, size: int = 0) -> Batch:
        """The next rows, at most so many; an empty batch at the end."""
        found = list(islice(self._rows, records)) if self.fields else []
        batch = Batch(found, list(range(self.number + 1, self.number + len(found) + 1)))
        self.number += len(found)
        return batch


def _plain(column: Any) -> list[Any]:
    """The values of a column as JSON has them."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode())
    if pa.types.is_timestamp(kind):
        zone = "UTC" if kind.tz else None
        return column.cast(pa.timestamp("us", zone), safe=False).cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    if _is(kind, _TEXTS):
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    values: list[Any] = column.to_pylist()
    if _is(kind, _JSON):
        return values
    if _is(kind, _HEXED):
        return [value if value is None else value.hex() for value in values]
    if pa.types.is_nested(kind):
        return [value if value is None else json.dumps(value, default=str) for value in values]
    return [value if value is None else str(value) for value in values]


def _is(kind: Any, names: Sequence[str]) -> bool:
    import pyarrow as pa

    return any(getattr(pa.types, name)(kind) for name in names)
