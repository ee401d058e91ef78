"""Files that grow by whole lines: records from an offset on, and where the next read begins."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson

from services.data.reading.kinds import FileFormat, FilesSource
from services.kit.errors import FailedPrecondition

LONGEST = 2**20  # bytes of a line
_DEEPEST = 200  # levels of a JSON record
_KEPT = 8192  # characters of a broken record that are kept
_BOM = b"\xef\xbb\xbf"


@dataclass
class Batch:
    """Records with their numbers, and those that could not be split: number, text, reason."""

    records: list[Any] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    broken: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.records) + len(self.broken)

    def take(self, number: int, record: Any) -> None:
        """Keeps a record."""
        self.records.append(record)
        self.numbers.append(number)

    def refuse(self, number: int, text: str, reason: str) -> None:
        """Keeps what is no record."""
        self.broken.append((number, text[:_KEPT], reason))


class Reader:
    """Records of one file. `offset` and `number` say what has been handed out: bytes, and records with the header."""

    fields: Sequence[str] = ()

    def __init__(self, file: BinaryIO, offset: int = 0, number: int = 0, complete: bool = False) -> None:
        """`complete`: nothing will be added, so that the last line counts without its end."""
        self._file, self._complete = file, complete
        self.offset, self.number = offset, number
        self._exhausted = False
        file.seek(offset)

    def read(self, records: int, size: int = 8 * LONGEST) -> Batch:
        """The next records, at most so many and about so many bytes; an empty batch at the end."""
        batch, begin = Batch(), self.offset
        # However many blank lines there are, an empty batch means the end.
        while batch.size < records and (not batch.size or self.offset - begin < size) and self._next(batch):
            pass
        return batch

    def _next(self, batch: Batch) -> bool:
        raw, length = self._line()
        if not length:
            return False
        self.offset += length
        self.number += 1
        if len(raw) < length:
            batch.refuse(self.number, raw.decode(errors="replace"), "the line is longer than 1 MiB")
            return True
        try:
            text = raw.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            batch.refuse(self.number, raw.decode(errors="replace"), "the line is not UTF-8")
            return True
        self._record(text, batch)
        return True

    def _record(self, text: str, batch: Batch) -> None:
        batch.take(self.number, text)

    def _line(self) -> tuple[bytes, int]:
        """A whole line, cut if it is too long, and how many bytes it has; no bytes at the end."""
        raw = self._file.readline(LONGEST)
        length, whole = len(raw), raw.endswith(b"\n")
        while not whole and (piece := self._file.readline(LONGEST)):
            length += len(piece)
            whole = piece.endswith(b"\n")
        if not whole and not (self._complete and length):
            self._exhausted = True
            return b"", 0
        return raw, length


class TextReader(Reader):
    """Each line is a record."""


class JsonReader(Reader):
    """Each line that is not blank is a JSON object."""

    def _record(self, text: str, batch: Batch) -> None:
        if not text.strip():
            return
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            batch.refuse(self.number, text, "the line is not JSON")
            return
        if not isinstance(document, dict):
            batch.refuse(self.number, text, "the line is not a JSON object")
        elif _is_deep(text, document):
            batch.refuse(self.number, text, "the line nests too deeply")
        else:
            batch.take(self.number, document)


def _is_deep(text: str, document: Any) -> bool:
    """True for what Python could parse but not write again."""
    if text.count("{") + text.count("[") <= _DEEPEST:
        return False
    level = [document]
    for _ in range(_DEEPEST):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        if not (level := [value for values in inner for value in values]):
            return False
    return True


class CsvReader(Reader):
    """Each record has as many fields as the header, the first record of the file."""

    def __init__(
        self, file: BinaryIO, offset: int = 0, number: int = 0, complete: bool = False, delimiter: str = ","
    ) -> None:
        super().__init__(file, 0, 0, complete)
        self._delimiter, self._taken = delimiter, 0
        self._spoilt, self._text = "", list[str]()
        self.fields = self._header()
        if offset > self.offset:
            self.offset, self.number = offset, number
            file.seek(offset)
        self._csv = self._rows()

    def _header(self) -> Sequence[str]:
        if self._file.read(3) == _BOM:
            self.offset = 3
        self._file.seek(self.offset)
        self._csv = self._rows()
        batch = Batch()
        while not batch.records:
            if not self._next(batch):
                return ()
            if batch.broken:
                raise FailedPrecondition("the header of the file cannot be read")
        header: list[str] = batch.records[0]
        if len(set(header)) < len(header):
            raise FailedPrecondition("the header of the file names a column twice")
        return header

    def _rows(self) -> Iterator[list[str]]:
        return csv.reader(self._texts(), delimiter=self._delimiter)

    def _texts(self) -> Iterator[str]:
        """The lines that the parser asks for; it asks for more while a quoted field is open."""
        while True:
            raw, length = self._line()
            if not length:
                return
            self._taken += length
            if len(raw) < length:
                self._spoilt = "the line is longer than 1 MiB"
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                self._spoilt, text = "the line is not UTF-8", raw.decode(errors="replace")
            self._text.append(text)
            yield text

    def _next(self, batch: Batch) -> bool:
        record: list[str] | None = None
        self._taken, self._spoilt = 0, ""
        self._text.clear()
        try:
            record = next(self._csv)
        except StopIteration:
            return False
        except csv.Error:
            self._spoilt = self._spoilt or "the record is not CSV"
        if self._exhausted and not self._complete:
            return False  # a quoted field is still open: the rest is to come
        self.offset += self._taken
        self.number += 1
        if record is not None and not record and not self._spoilt:
            return True  # a blank line
        if not self._spoilt and self.fields and len(record or ()) != len(self.fields):
            self._spoilt = "the record has another number of fields than the header"
        if self._spoilt:
            batch.refuse(self.number, "".join(self._text).rstrip("\r\n"), self._spoilt)
        else:
            batch.take(self.number, record)
        return True


def reader(source: FilesSource, file: BinaryIO, offset: int = 0, number: int = 0) -> Reader:
    """What reads a source's files. An upload is complete; a file below a pattern may grow."""
    complete = bool(source.upload_digest)
    if source.format is FileFormat.CSV:
        return CsvReader(file, offset, number, complete, source.delimiter)
    kind = JsonReader if source.format is FileFormat.JSON_LINES else TextReader
    return kind(file, offset, number, complete)


def text_of(record: Any, fields: Sequence[str]) -> str:
    """A record as text, for people: a line as it is, anything else as JSON."""
    if isinstance(record, str):
        return record[:_KEPT]
    named = dict(zip(fields, record, strict=True)) if fields else record
    return json.dumps(named, ensure_ascii=False, default=_hex)[:_KEPT]


def _hex(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
