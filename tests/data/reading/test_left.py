"""What is larger than the time of a run: the run leaves the rest to the next one, and each record is read once."""

import gzip
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.data.reading import patience
from services.data.reading.kinds import (
    FileFormat,
    FilesSource,
    JsonRule,
    RegexRule,
    RuleColumn,
    SqlRule,
    SqlSource,
)
from services.data.schema import ColumnType
from tests.data.reading_child import Reading

ROWS = 100_000  # more than are read between two looks at the clock
NUMBER = RuleColumn("n", "n", ColumnType.INT64, True)
TEXT, RULE = FilesSource(FileFormat.TEXT, "*.log*"), RegexRule(r"(?P<n>\d+)", (NUMBER,))


@pytest.fixture(autouse=True)
def _no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is over as soon as it has begun."""
    monkeypatch.setattr(patience, "SHARE", 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def lines(first: int, count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, first + count))


def runs(reading: Reading) -> Iterator[tuple[list[int], list[str]]]:
    """The numbers of each run and its notes, until one reads nothing."""
    while (answer := reading.run())["records"]:
        yield [row["n"] for row in reading.rows(answer)], answer["notes"]


def test_a_table_is_read_in_several_runs(root: Path) -> None:
    with sqlite3.connect(root / "a.db") as connection:
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO t VALUES (?)", ((number,) for number in range(ROWS)))
    found = list(runs(Reading(root, SqlSource("sqlite:///a.db", "t", "n"), SqlRule("SELECT n FROM t"))))
    assert [number for numbers, _ in found for number in numbers] == list(range(ROWS))
    assert len(found) > 2
    assert [notes for _, notes in found[:-1]] == [[patience.LEFT]] * (len(found) - 1)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_in_several_runs_also_a_compressed_one(root: Path, packed: bool) -> None:
    data = lines(0, ROWS)
    (root / ("a.log.gz" if packed else "a.log")).write_bytes(gzip.compress(data) if packed else data)
    found = list(runs(Reading(root, TEXT, RULE)))
    assert [number for numbers, _ in found for number in numbers] == list(range(ROWS))
    assert len(found) > 2
    assert "is left for the next run, as its time has ended" in found[0][1][0]


def test_a_file_that_waits_is_known_again_when_it_gets_another_name(root: Path) -> None:
    """The newest is read first, and is so large that the time is over behind it."""
    reading = Reading(root, TEXT, RULE)
    (root / "b.log").write_bytes(lines(0, 10))
    assert [number for numbers, _ in runs(reading) for number in numbers] == list(range(10))
    with (root / "b.log").open("ab") as file:
        file.write(lines(10, 5))
    (root / "b.log").rename(root / "b.log.1")
    (root / "b.log").write_bytes(lines(15, ROWS))
    (root / "a.log").write_bytes(lines(ROWS + 15, 3))
    found = [number for numbers, _ in runs(reading) for number in numbers]
    assert sorted(found) == list(range(10, ROWS + 18))


def test_documents_are_read_whole(root: Path) -> None:
    for name in ("a.json", "b.json"):
        (root / name).write_text('[{"n": 0}, {"n": 1}, {"n": 2}]')
    source, path = FilesSource(FileFormat.JSON, "*.json"), RuleColumn("n", "$.n", ColumnType.INT64, True)
    found = list(runs(Reading(root, source, JsonRule((path,)))))
    assert [numbers for numbers, _ in found] == [[0, 1, 2], [0, 1, 2]]
    assert "b.json and others are left for the next run" in found[0][1][0]
