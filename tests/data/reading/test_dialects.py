"""How files seem to be written, from their first bytes."""

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.reading.dialects import said, suggested
from services.data.reading.formats import Encoding
from services.data.reading.kinds import FileFormat, FilesSource
from tests.data.packing import parquet

CSV = FilesSource(FileFormat.CSV, "a")
TEXT = FilesSource(FileFormat.TEXT, "a")
TOWNS = "name;people;since\nZürich;420000;1218-01-01\nBern;135000;1191-01-01\n"


def seems(source: FilesSource, begin: bytes) -> dict[str, Any] | None:
    found = suggested(source, begin)
    return {name: value for name, value in vars(found).items() if value != getattr(source, name)} if found else None


@pytest.mark.parametrize(
    ("begin", "other"),
    [
        (b"a,b\n1,2\n3,4\n", None),
        (b"", None),
        (TOWNS.encode(), {"delimiter": ";"}),
        (TOWNS.encode("utf-16"), {"delimiter": ";", "encoding": Encoding.UTF_16}),
        (TOWNS.encode("utf-16-be"), {"delimiter": ";", "encoding": Encoding.UTF_16_BE}),
        (TOWNS.encode("latin-1"), {"delimiter": ";", "encoding": Encoding.LATIN_1}),
        ("p,q\n5 €,1\n6 €,2\n".encode("cp1252"), {"encoding": Encoding.WINDOWS_1252}),
        (b"a\tb\n1,5\t2\n3,7\t4\n", {"delimiter": "\t"}),
        (b"a,b\n'1,5',2\n'3,7',4\n", {"quote": "'"}),
        (b'a,b\n"say \\"x, y\\"",2\n"and \\"z, w\\"",4\n', {"escape": "\\"}),
        (b"1,2013-01-01\n2,2013-01-02\n3,2013-01-03\n", {"headless": True}),
        (b'{"a": 1}\n{"a": 2}\n', {"format": FileFormat.JSON_LINES}),
        (b'[\n {"a": 1},\n {"a": 2}\n]\n', {"format": FileFormat.JSON}),
        (parquet({"a": [1]}), {"format": FileFormat.PARQUET}),
        (b"name\nBern\nBasel\n", None),
    ],
)
def test_files_that_are_described_as_csv(begin: bytes, other: dict[str, Any] | None) -> None:
    assert seems(CSV, begin) == other


def test_lines_with_commas_may_be_meant_as_lines() -> None:
    assert seems(TEXT, b"a,b\n1,2\n3,4\n") is None
    assert seems(TEXT, "one\ntwo\n".encode("utf-16")) == {"encoding": Encoding.UTF_16}
    assert seems(TEXT, b"[2026-01-01 10:00] one\n[2026-01-01 10:01] two\n") is None


def test_lines_that_go_on_are_records_of_several_lines() -> None:
    pattern = r"(?:[\[(]|<[0-9]{1,3}>)?[0-9]{4}[-/.][0-9]{2}[-/.][0-9]{2}[T ,:]+[0-9]{2}:[0-9]{2}"
    start = {"record_start": pattern}
    log = "[2026-01-01 10:00] one\n\tat x\n[2026-01-01 10:01] two\n"
    assert seems(TEXT, log.encode()) == start
    assert seems(TEXT, log.encode("utf-16")) == {**start, "encoding": Encoding.UTF_16}
    assert suggested(replace(TEXT, record_start=pattern), log.encode()) is None


def test_marks_that_the_sample_does_not_use_are_left_as_they_are_said() -> None:
    assert suggested(FilesSource(FileFormat.CSV, "a", quote="'", escape="\\"), b"a,b\n1,2\n3,4\n") is None


def test_a_description_is_said_in_words() -> None:
    files = FilesSource(FileFormat.CSV, "a", delimiter=";", encoding=Encoding.UTF_16, headless=True)
    assert said(files) == "csv with delimiter ';' without a header in utf_16"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.sampled_from(["x y", "7", "a;b", 'say "hi"', "1.5", "é"])] * 3), min_size=4, max_size=20),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-16", "latin-1"]),
)
def test_what_is_suggested_reads_what_was_written(rows: list[tuple[str, ...]], delimiter: str, codec: str) -> None:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [("a", "b", "c"), *rows]
    )
    found = suggested(CSV, file.getvalue().encode(codec)) or CSV

    assert found.delimiter == delimiter


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(FileFormat))
def test_any_bytes_seem_like_something(begin: bytes, kind: FileFormat) -> None:
    found = suggested(FilesSource(kind, "a"), begin)
    assert found is None or said(found)
