"""How files seem to be written, by their first bytes: encoding, format, and the dialect of delimited text. Pure."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import orjson

from services.data.reading import starts
from services.data.reading.formats import Dialect, Encoding
from services.data.reading.kinds import FileFormat, FilesSource
from services.data.reading.kinds_files import SERVER_FIELDS
from services.data.reading.values import guess
from services.data.schema import ColumnType

_DELIMITERS, _QUOTES, _ESCAPES = ",;\t|", "\"'", ("", "\\")
_BOMS = {b"\xff\xfe": Encoding.UTF_16, b"\xfe\xff": Encoding.UTF_16}
_RECORDS = 200  # that are looked at
_AGREE = 0.9  # of the records of a delimited file have the same number of fields
_ARRAY = re.compile(r"\s*\[\s*(?:\{|\]\s*\Z)")  # of objects; lines may begin with a time in brackets
_SAME = {Encoding.DEFAULT: Encoding.UTF_8}


def suggested(source: FilesSource, begin: bytes) -> FilesSource | None:
    """How a source would be described so that it fits these bytes, or None where it is, or nothing is known."""
    if not begin or source.format is FileFormat.DOCUMENT:
        return None
    if begin.startswith(b"PAR1"):
        return _other(source, replace(_bare(source), format=FileFormat.PARQUET))
    encoding = _encoding(begin)
    text = begin.decode(encoding.value, errors="ignore").removeprefix("\ufeff")
    lines = text.splitlines()
    lines = lines[:-1] if len(lines) > 1 and not text.endswith("\n") else lines
    if source.format is FileFormat.TEXT and not source.record_start and (start := starts.suggested(lines)):
        same = _SAME.get(source.encoding, source.encoding) is encoding
        return replace(source, record_start=start, encoding=source.encoding if same else encoding)
    kind = _format(text, lines)
    if kind is FileFormat.JSON or (kind is FileFormat.JSON_LINES and encoding is Encoding.UTF_8):
        return _other(source, replace(_bare(source), format=kind))
    encoding = Encoding.DEFAULT if encoding is Encoding.UTF_8 else encoding
    plain = replace(_bare(source), format=kind, encoding=encoding)
    if source.format is FileFormat.TEXT and kind is FileFormat.CSV:
        return None  # lines with commas in them may well be meant as lines
    if kind is not FileFormat.CSV:
        # What has one column looks like text.
        same = kind is FileFormat.TEXT and source.format in (FileFormat.CSV, FileFormat.TEXT)
        return _other(source, replace(source, encoding=encoding) if same else plain)
    best = _dialect(lines)
    quote = "" if best.quote == '"' else best.quote
    said = replace(plain, delimiter=best.delimiter, quote=quote, escape=best.escape, headless=best.headless)
    return _other(source, said)


def said(source: FilesSource) -> str:
    """A description in words."""
    words = [source.format.value]
    if source.format is FileFormat.CSV:
        words.append(f"with delimiter {source.delimiter!r}")
        words += [f"quote {source.quote!r}"] if source.quote else []
        words += [f"escape {source.escape!r}"] if source.escape else []
        words += ["without a header"] if source.headless else []
    words += [f"in {source.encoding.value}"] if source.encoding not in (Encoding.DEFAULT, Encoding.UTF_8) else []
    return " ".join(words)


def _bare(source: FilesSource) -> FilesSource:
    plain = FilesSource(source.format, source.pattern, source.upload_digest, null_values=source.null_values)
    return replace(plain, **{name: getattr(source, name) for name in SERVER_FIELDS})


def _other(source: FilesSource, seems: FilesSource) -> FilesSource | None:
    """`seems`, if files that are described so are read otherwise."""

    def meant(one: FilesSource) -> object:
        if one.format in (FileFormat.PARQUET, FileFormat.JSON):
            return one.format
        encoding = _SAME.get(one.encoding, one.encoding)
        return one.format, encoding, one.dialect if one.format is FileFormat.CSV else None

    here = replace(source, escape=seems.escape, quote=seems.quote, unquoted=False) if _marks(source, seems) else source
    return None if meant(here) == meant(seems) else seems


def _marks(source: FilesSource, seems: FilesSource) -> bool:
    """Whether only marks differ that the sample does not use: then those of the description may well be right."""
    return (seems.quote, seems.escape) == ("", "")


def _encoding(begin: bytes) -> Encoding:
    for bom, encoding in _BOMS.items():
        if begin.startswith(bom):
            return encoding
    half = len(begin) // 2 or 1
    # Most of what is written has a zero in each unit of UTF-16: at odd places when it is little-endian.
    if begin[1::2].count(0) > half * 0.3:
        return Encoding.UTF_16_LE
    if begin[0::2].count(0) > half * 0.3:
        return Encoding.UTF_16_BE
    try:
        begin[: max(len(begin) - 3, 1)].decode()
    except UnicodeDecodeError as error:
        if error.start < len(begin) - 8:
            # The bytes 128 to 159 are letters and quotes in windows-1252, and nothing in ISO 8859-1.
            return Encoding.WINDOWS_1252 if any(0x80 <= byte < 0xA0 for byte in begin) else Encoding.LATIN_1
    return Encoding.UTF_8


def _format(text: str, lines: Sequence[str]) -> FileFormat:
    there = [line for line in lines if line.strip()][:_RECORDS]
    if there and all(_is_object(line) for line in there):
        return FileFormat.JSON_LINES
    if _ARRAY.match(text) or (text.lstrip()[:1] == "{" and there and not there[0].strip().endswith("}")):
        return FileFormat.JSON
    counts = _fields(there, _dialect(there)) if len(there) > 1 else []
    most, times = Counter(counts).most_common(1)[0] if counts else (1, 0)
    return FileFormat.CSV if most > 1 and times >= _AGREE * len(counts) else FileFormat.TEXT


def _is_object(line: str) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _dialect(lines: Sequence[str]) -> Dialect:
    """The marks under which most records have the same number of fields, the more the better."""
    some = [line for line in lines if line.strip()][:_RECORDS]
    text = "\n".join(some)
    candidates = [
        Dialect(delimiter, quote, escape)
        for delimiter, quote, escape in product(_DELIMITERS, _QUOTES, _ESCAPES)
        if delimiter in text and (quote == '"' or quote in text) and (not escape or f"{escape}{quote}" in text)
    ]
    best = max(candidates, key=lambda dialect: _worth(some, dialect), default=Dialect())
    return replace(best, headless=_headless(_records(some, best)))


def _worth(lines: Sequence[str], dialect: Dialect) -> tuple[float, int, int]:
    """How many records agree, in how many fields; a quote that surrounds fields counts for its dialect."""
    counts = _fields(lines, dialect)
    if not counts:
        return (0.0, 0, 0)
    most, times = Counter(counts).most_common(1)[0]
    surrounding = sum(line.count(f"{dialect.delimiter}{dialect.quote}") for line in lines)
    return (times / len(counts) if most > 1 else 0.0, surrounding, most)


def _fields(lines: Sequence[str], dialect: Dialect) -> list[int]:
    return [len(record) for record in _records(lines, dialect)]


def _records(lines: Sequence[str], dialect: Dialect) -> list[list[str]]:
    marks = {"delimiter": dialect.delimiter, "quotechar": dialect.quote, "escapechar": dialect.escape or None}
    try:
        found = [record for record in csv.reader((f"{line}\n" for line in lines), **marks) if record]  # type: ignore[arg-type]
    except csv.Error:
        return []
    return found


def _headless(records: Sequence[list[str]]) -> bool:
    """Whether the first record is like the others: it has numbers, or times, where all others have them."""
    if len(records) < 2:
        return False
    first, rest = records[0], [record for record in records[1:] if len(record) == len(records[0])]
    if not rest or len(set(first)) < len(first) or "" in first:
        return bool(rest)
    columns = list(zip(*rest, strict=True))
    kinds = [guess([value for value in column if value]) for column in columns]
    typed = [place for place, kind in enumerate(kinds) if kind is not ColumnType.STRING]
    if not typed:
        # Only texts: names stand in a header once, and values come again.
        return any(column.count(name) for name, column in zip(first, columns, strict=True))
    return all(guess([first[place]]) is kinds[place] for place in typed)
