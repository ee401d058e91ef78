"""Files of every kind are read once: when they grow, are rotated, compressed, replaced, cut or damaged."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.data.reading import unpacking
from services.data.reading.kinds import FileFormat, FileRule, FilesSource, JsonRule, RegexRule, RuleColumn
from services.data.schema import ColumnType
from services.kit.errors import Code, Failure
from tests.data.packing import PACKERS, parquet
from tests.data.reading_child import Reading

N = (RuleColumn("n", "n", ColumnType.INT64),)
LINE = RegexRule(r"n=(?P<n>\d+) .*", N)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "import").mkdir()
    return tmp_path / "import"


def log(*numbers: int) -> bytes:
    return b"".join(b"n=%d %s\n" % (number, b"." * 60) for number in numbers)


def numbers(reading: Reading) -> list[int]:
    return [row["n"] for row in reading.rows(reading.run())]


@pytest.fixture
def logs(root: Path) -> Reading:
    return Reading(root, FilesSource(FileFormat.TEXT, "a.log*"), LINE)


@pytest.mark.parametrize("count", [3, 300])
@pytest.mark.parametrize("kind", PACKERS)
def test_a_log_that_is_rotated_and_then_compressed_is_not_read_twice(
    root: Path, logs: Reading, kind: str, count: int
) -> None:
    first, second = range(count), range(count, 2 * count)
    (root / "a.log").write_bytes(log(*first))
    assert numbers(logs) == list(first)
    (root / "a.log").rename(root / "a.log.1")
    with (root / "a.log.1").open("ab") as file:
        file.write(log(*second))
    (root / "a.log").write_bytes(log(9000))
    assert sorted(numbers(logs)) == [*second, 9000]
    (root / "a.log.1.gz").write_bytes(PACKERS[kind](log(*first, *second)))
    (root / "a.log.1").unlink()
    with (root / "a.log").open("ab") as file:
        file.write(log(9001))

    assert numbers(logs) == [9001]
    assert numbers(logs) == []


@pytest.mark.parametrize("kind", PACKERS)
def test_a_compressed_file_that_grows_by_whole_parts_goes_on(root: Path, logs: Reading, kind: str) -> None:
    (root / "a.log.gz").write_bytes(PACKERS[kind](log(1, 2)))
    assert numbers(logs) == [1, 2]
    with (root / "a.log.gz").open("ab") as file:
        file.write(PACKERS[kind](log(3)))
    assert numbers(logs) == [3]


def test_a_compressed_file_that_has_not_changed_is_not_unpacked_again(
    root: Path, logs: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.log.gz").write_bytes(gzip.compress(log(1, 2)))
    assert numbers(logs) == [1, 2]
    monkeypatch.setattr(unpacking.Content, "readinto", lambda *_: pytest.fail("it was unpacked"))
    assert numbers(logs) == []


def test_a_compressed_file_is_read_while_it_is_written(root: Path, logs: Reading) -> None:
    whole = gzip.compress(log(*range(5000)), compresslevel=0)
    (root / "a.log.gz").write_bytes(whole[: len(whole) // 2])
    seen = numbers(logs)
    assert 2000 < len(seen) < 3000
    (root / "a.log.gz").write_bytes(whole)
    assert seen + numbers(logs) == list(range(5000))


def test_the_last_line_of_a_compressed_file_needs_no_end(root: Path, logs: Reading) -> None:
    (root / "a.log.gz").write_bytes(gzip.compress(log(1, 2)[:-1]))
    assert numbers(logs) == [1, 2]


def test_a_damaged_file_stops_the_run_and_moves_no_cursor(root: Path, logs: Reading) -> None:
    data = bytearray(gzip.compress(log(*range(1000))))
    data[-5] ^= 255
    (root / "a.log.0").write_bytes(log(7))
    (root / "a.log.1").write_bytes(data)
    with pytest.raises(Failure, match=r"a\.log\.1 is damaged behind byte \d+") as caught:
        logs.run()
    assert caught.value.code is Code.FAILED_PRECONDITION
    (root / "a.log.1").unlink()
    assert numbers(logs) == [7]


def parquet_of(*found: int) -> bytes:
    return parquet({"n": list(found), "text": ["x" * 50] * len(found)})


def json_of(*found: int) -> bytes:
    return b"[" + b",".join(b'{"n": %d}' % number for number in found) + b"]"


@pytest.mark.parametrize(
    ("kind", "write", "rule"),
    [
        (FileFormat.PARQUET, parquet_of, FileRule(N)),
        (FileFormat.JSON, json_of, JsonRule(N)),
        (FileFormat.JSON, lambda *found: gzip.compress(json_of(*found)), JsonRule(N)),
    ],
)
def test_whole_files_are_read_once_and_new_ones_when_they_come(
    root: Path, kind: FileFormat, write: Callable[..., bytes], rule: Any
) -> None:
    reading = Reading(root, FilesSource(kind, "*/part-*"), rule)
    (root / "one").mkdir()
    (root / "one" / "part-1").write_bytes(write(1, 2))
    assert numbers(reading) == [1, 2]
    (root / "one" / "part-2").write_bytes(write(3))
    (root / "one" / "part-1").rename(root / "one" / "part-0")
    assert numbers(reading) == [3]
    os.utime(root / "one" / "part-2")
    assert numbers(reading) == []


def test_a_parquet_file_without_its_end_waits(root: Path) -> None:
    reading = Reading(root, FilesSource(FileFormat.PARQUET, "*.parquet"), FileRule(N))
    (root / "a.parquet").write_bytes(parquet_of(1, 2)[:-10])
    (root / "b.parquet").write_bytes(parquet_of(3))
    answer = reading.run()
    assert [row["n"] for row in reading.rows(answer)] == [3]
    assert answer["notes"] == ["a.parquet is not complete: it is read when it is"]
    (root / "a.parquet").write_bytes(parquet_of(1, 2))
    assert numbers(reading) == [1, 2]


def test_a_json_document_that_grew_goes_on_and_one_that_was_replaced_is_noted(root: Path) -> None:
    reading = Reading(root, FilesSource(FileFormat.JSON, "a.json"), JsonRule(N))
    (root / "a.json").write_bytes(json_of(1, 2))
    assert numbers(reading) == [1, 2]
    (root / "a.json").write_bytes(json_of(1, 2, 3))
    assert numbers(reading) == [3]
    (root / "a.json").write_bytes(json_of(8, 9, 10))
    answer = reading.run()
    assert [row["n"] for row in reading.rows(answer)] == [8, 9, 10]
    assert answer["notes"] == ["a.json is another file than before and was read from its start"]


def test_a_parquet_file_whose_columns_changed_gives_null_or_quarantine(root: Path) -> None:
    columns = (*N, RuleColumn("at", "at", ColumnType.TIMESTAMP))
    reading = Reading(root, FilesSource(FileFormat.PARQUET, "*"), FileRule(columns))
    (root / "a").write_bytes(parquet({"n": [1]}))
    (root / "b").write_bytes(parquet({"at": ["2013-01-01 10:00:00", "soon"], "n": [2, 3]}))
    answer = reading.run()

    assert [(row["n"], row["at"] is None) for row in reading.rows(answer)] == [(1, True), (2, False)]
    assert reading.broken(answer) == [('{"at": "soon", "n": 3}', "at does not fit timestamp", "b:2")]
