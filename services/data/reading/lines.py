"""Files that grow by whole lines: records from an offset on, and where the next read begins."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import orjson

from services.data.reading import plain, texts
from services.data.reading.batches import KEPT, Batch, Page
from services.data.reading.formats import Dialect, Encoding
from services.data.reading.kinds import FileFormat, FilesSource
from services.kit.errors import FailedPrecondition

LONGEST = 2**20  # bytes of a line
_MANY, _COLUMNS = 64, 4096  # records that are worth a look whether they are plain, and columns of their fields
_WARY = 2**14, 2**20  # bytes that are read line by line after the first, and the last, look in a row that found none
_WORTH = 2**16  # bytes of plain lines in front of others
_ENDLESS = 2**30  # bytes, behind which nobody looks for the end of a line
_DEEPEST = 200  # levels of a JSON record


class Reader:
    """Records of one file. `offset` and `number` say what has been handed out: bytes, and records with the header."""

    fields: Sequence[str] = ()
    _many = False  # whether its lines can be taken many at once

    def __init__(
        self,
        file: BinaryIO,
        offset: int = 0,
        number: int = 0,
        complete: bool | Callable[[], bool] = False,
        encoding: Encoding = Encoding.DEFAULT,
    ) -> None:
        """`complete`: nothing will be added, so that the last line counts without its end; asked at the end."""
        self._lines = texts.Lines(file, encoding)
        self._complete = complete if callable(complete) else lambda: bool(complete)
        self.offset, self.number = max(offset, self._lines.begin), number
        self._exhausted, self._open = False, False
        self._look, self._wary = 0, _WARY[0]
        self._lines.seek(self.offset)

    def read(self, records: int, size: int = 8 * LONGEST) -> Page:
        """The next records, at most so many and about so many bytes; an empty page at the end."""
        batch, begin = Batch(), self.offset
        # However many blank lines there are, an empty page means the end.
        while batch.size < records and (not batch.size or self.offset - begin < size):
            if self._many and records >= _MANY and not self._exhausted and self.offset >= self._look:
                if batch.size:
                    break
                if page := self._block(records, size):
                    return page
            if not self._next(batch):
                break
        return batch

    def _block(self, records: int, size: int) -> Page | None:
        """Many records at once, where their lines are plain; else it is a while until the next look."""
        lines = self._lines.block(records, size)
        begin = self._begin(lines)
        self._lines.give_back(lines[len(begin) :])
        found = self._plain(begin, records) if begin and len(begin) >= min(len(lines), _WORTH) else None
        if found is None:
            self._lines.give_back(begin)
            self._look, self._wary = self.offset + self._wary, min(4 * self._wary, _WARY[1])
            return None
        page = Page(found, range(self.number + 1, self.number + len(found) + 1))
        self.offset += len(begin)
        self.number += len(found)
        self._wary = _WARY[0]
        return page

    def _begin(self, lines: bytes) -> bytes:
        """The first of whole lines that may be plain."""
        return lines

    def _plain(self, lines: bytes, records: int) -> Sequence[Any] | None:
        """The records of whole lines, of which so many are asked for; None where each has to be looked at."""
        return None

    def _next(self, batch: Batch) -> bool:
        raw, length = self._line()
        if not length:
            return False
        self.offset += length
        self.number += 1
        if len(raw) < length:
            batch.refuse(self.number, self._lines.lossy(raw), "the line is longer than 1 MiB")
            return True
        try:
            text = self._lines.text(raw).rstrip("\r\n")
        except UnicodeDecodeError:
            batch.refuse(self.number, self._lines.lossy(raw), f"the line is not {self._lines.name}")
            return True
        self._record(text, batch)
        return True

    def _record(self, text: str, batch: Batch) -> None:
        batch.take(self.number, text)

    def _line(self) -> tuple[bytes, int]:
        """A whole line, cut if it is too long, and how many bytes it has; no bytes at the end, and none behind it.

        What is added while the file is read is for the next reader: the beginning of its line was read already.
        """
        if self._exhausted:
            return b"", 0
        raw = self._lines.readline(LONGEST)
        length, whole = len(raw), raw.endswith(self._lines.end)
        # A shorter one without its end is the last, whatever was added since it was read.
        while length >= LONGEST and not whole and (piece := self._lines.readline(LONGEST)):
            length += len(piece)
            if length > _ENDLESS:
                raise FailedPrecondition(f"line {self.number + 1} is longer than 1 GiB: it may be no text")
            whole = piece.endswith(self._lines.end)
        if not whole and not (length and self._complete()):
            self._exhausted, self._open = True, bool(length)
            return b"", 0
        return raw, length


class TextReader(Reader):
    """Each line is a record."""

    _many = True

    def _plain(self, lines: bytes, records: int) -> Sequence[Any] | None:
        try:
            return plain.lines_of(self._lines.text(lines))
        except UnicodeDecodeError:
            return None


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
        elif is_deep(text, document):
            batch.refuse(self.number, text, "the line nests too deeply")
        else:
            batch.take(self.number, document)


def is_deep(text: str, document: Any) -> bool:
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
    """Each record has as many fields as the header, the first record of the file; without one, as the first record."""

    def __init__(
        self,
        file: BinaryIO,
        offset: int = 0,
        number: int = 0,
        complete: bool | Callable[[], bool] = False,
        encoding: Encoding = Encoding.DEFAULT,
        dialect: Dialect | None = None,
    ) -> None:
        super().__init__(file, 0, 0, complete, encoding)
        self._dialect, self._taken = dialect or Dialect(), 0
        self._many = (self._dialect.quote + self._dialect.escape).isascii()
        self._spoilt, self._text = "", list[str]()
        begin = self.offset
        self._csv = self._rows()
        self.fields = self._header()
        if self._dialect.headless:
            self.fields = [f"column_{number}" for number, _ in enumerate(self.fields, 1)]
            self.offset, self.number = begin, 0
        if offset > self.offset:
            self.offset, self.number = offset, number
        self._exhausted = False
        self._lines.seek(self.offset)
        self._csv = self._rows()

    def _header(self) -> Sequence[str]:
        batch = Batch()
        while not batch.records:
            if not self._next(batch):
                return ()
            if batch.broken:
                raise FailedPrecondition("the header of the file cannot be read")
        header: list[str] = batch.records[0]
        if not self._dialect.headless and len(set(header)) < len(header):
            raise FailedPrecondition("the header of the file names a column twice")
        return header

    def _begin(self, lines: bytes) -> bytes:
        return plain.plain_of(lines, self._dialect)

    def _plain(self, lines: bytes, records: int) -> Sequence[Any] | None:
        try:
            text = self._lines.text(lines)
        except UnicodeDecodeError:
            return None
        # Arrow takes longer to load than it takes to read a sample.
        if records < _COLUMNS or not self._dialect.delimiter.isascii():
            return plain.rows_of(text, self._dialect, len(self.fields))
        return plain.columns_of(text.encode(), self._dialect, len(self.fields))

    def _rows(self) -> Iterator[list[str]]:
        said = self._dialect
        return csv.reader(
            self._texts(),
            delimiter=said.delimiter,
            quotechar=said.quote or None,
            quoting=csv.QUOTE_MINIMAL if said.quote else csv.QUOTE_NONE,
            escapechar=said.escape or None,
        )

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
                text = self._lines.text(raw)
            except UnicodeDecodeError:
                self._spoilt, text = f"the line is not {self._lines.name}", self._lines.lossy(raw)
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
        if self._exhausted and not self._complete():
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


def reader(
    source: FilesSource, file: BinaryIO, offset: int = 0, number: int = 0, whole: Callable[[], bool] = lambda: False
) -> Reader:
    """What reads a source's lines. An upload is complete; a file below a pattern may grow, unless it is `whole`."""
    complete = whole if not source.upload_digest else True
    if source.format is FileFormat.CSV:
        return CsvReader(file, offset, number, complete, source.encoding, source.dialect)
    if source.format is FileFormat.JSON_LINES:
        return JsonReader(file, offset, number, complete, source.encoding)
    return TextReader(file, offset, number, complete, source.encoding)


def text_of(record: Any, fields: Sequence[str]) -> str:
    """A record as text, for people: a line as it is, anything else as JSON."""
    if isinstance(record, str):
        return record[:KEPT]
    named = dict(zip(fields, record, strict=True)) if fields else record
    return json.dumps(named, ensure_ascii=False, default=_hex)[:KEPT]


def _hex(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
