"""Records of several lines: where they begin and end, in files that grow anywhere."""

import io
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.reading.kinds import FileFormat, FilesSource, RegexRule, RuleColumn
from services.data.reading.multiline import NO_START, RecordReader
from services.data.schema import ColumnType
from tests.data.reading_child import Reading

LOG = FilesSource(FileFormat.TEXT, "a.log*", record_start="[0-9]+ ")
RULE = RegexRule(
    r"(?P<n>[0-9]+) (?P<said>[^\n]*)(?:\n(?P<trace>(?s:.*)))?",
    (
        RuleColumn("n", "n", ColumnType.INT64),
        RuleColumn("said", "said", ColumnType.STRING),
        RuleColumn("trace", "trace", ColumnType.STRING),
    ),
)
LATER = 3600


def read(data: bytes, whole: bool = True, start: int = 0, number: int = 0, **more: Any) -> RecordReader:
    source = FilesSource(FileFormat.TEXT, "a", record_start="[0-9]+ ", **more)
    return RecordReader(source, io.BytesIO(data), start, number, lambda: whole)


def test_lines_that_start_no_record_belong_to_the_one_before() -> None:
    batch = read(b"1 a\r\n\tat x\r\n\r\n2 b\n3 c\n  d\n\n").read(10)

    assert batch.records == ["1 a\n\tat x", "2 b", "3 c\n  d"]
    assert batch.numbers == [1, 4, 5]


def test_the_last_record_waits_until_the_file_is_complete() -> None:
    reader = read(b"1 a\n x\n2 b\n y\n", whole=False)
    assert reader.read(10).records == ["1 a\n x"]
    assert (reader.offset, reader.number, reader.waiting) == (7, 2, True)
    again = read(b"1 a\n x\n2 b\n y\n z\n", True, reader.offset, reader.number)
    assert (again.read(10).records, again.waiting) == (["2 b\n y\n z"], False)


def test_a_line_that_grows_while_it_is_read_is_for_the_next_run() -> None:
    file = io.BytesIO(b"1 a\n2 b\n3")
    reader = RecordReader(LOG, file)
    assert reader.read(1).records == ["1 a"]
    assert reader.read(1).records == []
    file.seek(0, 2)
    file.write(b" c\n4 d\n")
    assert (reader.read(10).records, reader.offset) == ([], 4)


@pytest.mark.parametrize(
    ("data", "more", "refused"),
    [
        (b" x\n y\n1 a\n", {}, [(1, " x\n y", NO_START)]),
        (
            b"1 a\n b\n c\n d\n2 e\n",
            {"record_lines": 2},
            [(1, "1 a\n b", "the record has more than 2 lines"), (3, " c\n d", NO_START)],
        ),
        (
            b"1 a\n" + b" " * 9 + b"b\n2 e\n",
            {"record_bytes": 10},
            [(1, "1 a", "the record has more than 10 bytes"), (2, " " * 9 + "b", "the record has more than 10 bytes")],
        ),
        (b"1 a\n \xff\n2 b\n", {}, [(1, "1 a\n \ufffd", "the line is not UTF-8")]),
    ],
)
def test_what_is_no_record_is_refused_with_its_reason(data: bytes, more: Any, refused: Any) -> None:
    batch = read(data, **more).read(100)
    assert batch.broken == refused
    assert len(batch.records) == 1


def test_a_record_that_never_ends_takes_no_memory_and_is_refused_in_pieces() -> None:
    reader, pieces = read(b"1 a\n" + b"x\n" * 50_000, record_lines=100), 0
    while (batch := reader.read(7)).size:
        assert all(len(text) <= 300 for _, text, _ in batch.broken)
        pieces += batch.size
    assert pieces == 501
    assert (reader.offset, reader.number) == (100_004, 50_001)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(["1 a", "2 b", " x", "", "y", "3"]), max_size=20), st.data())
def test_a_file_that_grows_anywhere_gives_what_it_gives_at_once(lines: list[str], data: st.DataObject) -> None:
    whole = "".join(f"{line}\n" for line in lines).encode()
    at_once = read(whole, record_lines=3).read(1000)
    records, broken, offset, number = [], [], 0, 0
    for cut in (*sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4))), len(whole)):
        reader = read(whole[:cut], cut == len(whole), offset, number, record_lines=3)
        while (batch := reader.read(2)).size:
            records += list(zip(batch.numbers, batch.records, strict=True))
            broken += batch.broken
        offset, number = reader.offset, reader.number
    assert records == list(zip(at_once.numbers, at_once.records, strict=True))
    assert broken == at_once.broken


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "import").mkdir()
    return tmp_path / "import" / "a.log"


def written(log: Path, text: str, ago: int = 0) -> None:
    with log.open("a") as file:
        file.write(text)
    when = time.time() - ago
    os.utime(log, (when, when))


def rows(reading: Reading) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in reading.rows(reading.run())]


def test_a_last_record_is_read_when_its_file_was_left_alone(log: Path) -> None:
    reading = Reading(log.parent, LOG, RULE)
    written(log, "1 a\n\tat x\n2 b\n")
    answer = reading.run()
    assert [row["n"] for row in reading.rows(answer)] == [1]
    assert answer["notes"] == ["the last record of a.log waits until nothing was written for 60 seconds"]
    written(log, "\tat y\n", LATER)
    assert rows(reading) == [(2, "b", "\tat y")]
    # What comes all the same is not lost and makes no second row.
    written(log, "\tat z\n3 c\n", LATER)
    answer = reading.run()
    assert [row["n"] for row in reading.rows(answer)] == [3]
    assert reading.broken(answer) == [("\tat z", NO_START, "a.log:5")]


def test_a_line_without_its_end_keeps_the_record_waiting(log: Path) -> None:
    reading = Reading(log.parent, LOG, RULE)
    written(log, "1 a\n\tat", LATER)
    assert rows(reading) == []
    written(log, " x\n", LATER)
    assert rows(reading) == [(1, "a", "\tat x")]


def test_a_rotated_log_ends_with_its_last_record(log: Path) -> None:
    reading = Reading(log.parent, LOG, RULE)
    written(log, "1 a\n2 b\n")
    assert rows(reading) == [(1, "a", None)]
    log.rename(log.with_name("a.log.1"))
    written(log.with_name("a.log.1"), "\tat x\n")
    written(log, "3 c\n")
    assert rows(reading) == [(2, "b", "\tat x")]
    assert rows(reading) == []


def test_a_log_whose_name_nobody_took_may_go_on(log: Path) -> None:
    reading = Reading(log.parent, LOG, RULE)
    written(log, "1 a\n2 b\n")
    assert rows(reading) == [(1, "a", None)]
    moved = log.rename(log.with_name("a.log.1"))
    log.touch()
    written(moved, "\tat x\n")
    assert rows(reading) == []
    written(moved, "\tat y\n", LATER)
    assert rows(reading) == [(2, "b", "\tat x\n\tat y")]
