"""Lines that are written in the plainest way, many at once. What is not, a parser reads line by line. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

from services.data.reading.formats import Dialect

_LONGEST = 131_072  # characters: a field that is longer is no CSV
_BOM = b"\xef\xbb\xbf"


class Fields(Sequence[list[str]]):
    """Records of delimited text as Arrow columns of their fields, all of them texts."""

    def __init__(self, columns: Sequence[Any]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, place: int) -> list[str]: ...

    @overload
    def __getitem__(self, place: slice) -> "Fields": ...

    def __getitem__(self, place: int | slice) -> "list[str] | Fields":
        if isinstance(place, int):
            return [column[place].as_py() for column in self.columns]
        begin, end, _ = place.indices(len(self))
        return Fields([column.slice(begin, end - begin) for column in self.columns])

    def __iter__(self) -> Iterator[list[str]]:
        return map(list, zip(*(column.to_pylist() for column in self.columns), strict=True))


def plain_of(lines: bytes, dialect: Dialect) -> bytes:
    """The first of whole lines, as far as no quote, escape or other character in them needs a parser."""
    marks = (mark.encode() for mark in ("\0", dialect.quote, dialect.escape) if mark)
    found = [place for mark in marks if (place := lines.find(mark)) >= 0]
    return lines[: lines.rfind(b"\n", 0, min(found)) + 1] if found else lines


def columns_of(lines: bytes, dialect: Dialect, fields: int) -> Fields | None:
    """The fields of such lines in UTF-8; None where it takes a parser to know them, or one would refuse a line."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    if not fields or b"\n\n" in lines or lines.startswith((b"\n", b"\r", _BOM)):
        return None
    if b"\r" in lines and (lines.count(b"\r") != lines.count(b"\r\n") or b"\n\r" in lines):
        return None
    names = [str(place) for place in range(fields)]
    try:
        table = csv.read_csv(
            pa.BufferReader(lines),
            csv.ReadOptions(use_threads=False, block_size=len(lines) + 1, column_names=names),
            csv.ParseOptions(delimiter=dialect.delimiter, quote_char=False),
            csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid:
        return None
    columns = [column.combine_chunks() for column in table.columns]
    if table.num_rows != lines.count(b"\n") or any(
        pc.max(pc.binary_length(each)).as_py() > _LONGEST for each in columns
    ):
        return None
    return Fields(columns)


def lines_of(text: str) -> list[str]:
    """Whole lines, without their ends."""
    lines = text.split("\n")[:-1]
    return [line.rstrip("\r") for line in lines] if "\r" in text else lines


def rows_of(text: str, dialect: Dialect, fields: int) -> Sequence[list[str]] | None:
    """The fields of whole lines; None where it takes a parser to know them, or where one would refuse a line."""
    if "\0" in text or (dialect.quote and dialect.quote in text) or (dialect.escape and dialect.escape in text):
        return None
    if "\r" in text:
        if text.count("\r") != text.count("\r\n"):
            return None
        text = text.replace("\r\n", "\n")
    lines = text.split("\n")[:-1]
    if "" in lines or max(map(len, lines)) > _LONGEST:
        return None
    rows = [line.split(dialect.delimiter) for line in lines]
    return rows if set(map(len, rows)) == {fields} else None
