"""What the child of an extraction reads, writes and answers."""

import os
from pathlib import Path

import pytest

from services.data.extractions import sinks
from services.data.reading import connector_files
from services.data.reading.kinds import FileFormat, FileRule, FilesSource, JsonRule, RegexRule, RuleColumn
from services.data.schema import ColumnType
from services.kit.disk import on_disk
from services.kit.errors import Code, Failure
from tests.data.reading_child import Reading

NUMBER = RuleColumn("n", "n", ColumnType.INT64, required=True)
WORD = RuleColumn("word", "word", ColumnType.STRING)
TEXT = RegexRule(r"(?P<n>\d+) ?(?P<word>\w*)", (NUMBER, WORD))
LOG = FilesSource(FileFormat.TEXT, "*.log")
CSV = FilesSource(FileFormat.CSV, "*.csv", null_values=("NA",))
JSON = FilesSource(FileFormat.JSON_LINES, "*.jsonl")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "import").mkdir()
    return tmp_path / "import"


def numbers(reading: Reading) -> list[int]:
    return [row["n"] for row in reading.rows(reading.run())]


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_files_are_read_in_their_order_and_rows_keep_it(root: Path) -> None:
    for name, text in (("b.log", "3\n4\n"), ("a.log", "1\n2\n"), ("c.log", "")):
        (root / name).write_text(text)
    assert numbers(Reading(root, LOG, TEXT)) == [1, 2, 3, 4]


def test_a_run_without_news_writes_nothing_and_keeps_its_cursor(root: Path) -> None:
    (root / "a.log").write_text("1\n2\nunfini")
    reading = Reading(root, LOG, TEXT)
    reading.run()
    before = reading.cursor
    answer = reading.run()

    assert (answer["records"], answer["files"], answer["quarantine"]) == (0, [], [])
    assert answer["cursor"] == before
    assert os.listdir(reading.folder) == []


def test_a_pattern_that_names_no_file_yet_is_no_failure(root: Path) -> None:
    reading = Reading(root, LOG, TEXT)
    assert reading.run()["cursor"] == {"files": []}
    (root / "a.log").write_text("1\n")
    assert numbers(reading) == [1]


def test_a_file_that_is_away_for_a_run_is_not_read_twice(root: Path) -> None:
    (root / "a.log").write_text("1\n")
    reading = Reading(root, LOG, TEXT)
    reading.run()
    (root / "a.log").rename(root / "away")
    assert reading.run()["records"] == 0
    (root / "away").rename(root / "b.log")
    append(root / "b.log", "2\n")
    assert numbers(reading) == [2]


def test_origins_count_lines_over_runs(root: Path) -> None:
    (root / "a.log").write_text("1\nx\n")
    reading = Reading(root, LOG, TEXT)
    first = reading.broken(reading.run())
    append(root / "a.log", "y\n")

    assert first == [("x", "the line does not match", "a.log:2")]
    assert reading.broken(reading.run()) == [("y", "the line does not match", "a.log:3")]


def test_a_header_is_read_again_for_each_run_and_each_file(root: Path) -> None:
    rule = FileRule((NUMBER, WORD))
    (root / "a.csv").write_text("n,word\n1,x\n")
    (root / "b.csv").write_text("other,n\n?,2\n")
    reading = Reading(root, CSV, rule)
    assert reading.rows(reading.run()) == [{"n": 1, "word": "x"}, {"n": 2, "word": None}]
    append(root / "a.csv", "3,NA\n")
    assert reading.rows(reading.run()) == [{"n": 3, "word": None}]


def test_a_file_with_a_header_only_has_no_rows(root: Path) -> None:
    (root / "a.csv").write_text("n,word\n")
    reading = Reading(root, CSV, FileRule((NUMBER,)))
    assert reading.run()["records"] == 0
    append(root / "a.csv", "1,x\n")
    assert numbers(reading) == [1]


def test_a_header_that_names_a_column_twice_ends_the_run(root: Path) -> None:
    (root / "a.csv").write_text("n,n\n1,2\n")
    with pytest.raises(Failure, match="names a column twice") as caught:
        Reading(root, CSV, FileRule((NUMBER,))).run()
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_many_broken_records_are_all_kept_and_counted(root: Path) -> None:
    (root / "a.log").write_text("".join(f"x{i}\n" for i in range(2500)) + "7\n")
    reading = Reading(root, LOG, TEXT)
    answer = reading.run()

    assert answer["quarantined"] == {"the line does not match": 2500}
    assert [record for record, _, _ in reading.broken(answer)] == [f"x{i}" for i in range(2500)]
    assert (answer["records"], len(reading.rows(answer))) == (2501, 1)


def test_a_run_of_broken_records_only_writes_no_rows(root: Path) -> None:
    (root / "a.log").write_text("x\n")
    answer = Reading(root, LOG, TEXT).run()
    assert (answer["files"], len(answer["quarantine"])) == ([], 1)


def test_batches_make_no_difference(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a.log").write_text("".join(f"{i}\n" if i % 7 else "x\n" for i in range(100)))
    whole = Reading(root, LOG, TEXT)
    rows, broken = (answer := whole.run()) and whole.rows(answer), whole.broken(answer)
    monkeypatch.setattr(connector_files, "_PAGE", 3)
    pieces = Reading(root, LOG, TEXT)
    pieces.runs = whole.runs

    answer = pieces.run()
    assert (pieces.rows(answer), pieces.broken(answer)) == (rows, broken)
    assert pieces.cursor == whole.cursor


def test_progress_is_told_and_never_goes_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector_files, "_PAGE", 5)
    monkeypatch.setattr(sinks, "_TELL", -1.0)
    for name in ("a.log", "b.log"):
        (root / name).write_text("".join(f"{i}\n" for i in range(20)))
    reading = Reading(root, LOG, TEXT)
    reading.run()

    records, fractions = ([message[key] for message in reading.told] for key in ("records", "fraction"))
    assert (records, fractions[-1]) == ([5, 10, 15, 20, 25, 30, 35, 40], 1.0)
    assert fractions == sorted(fractions)


def test_a_document_that_nests_too_deeply_is_put_aside_alone(root: Path) -> None:
    deep = '{"n":' * 1000 + "1" + "}" * 1000
    (root / "a.jsonl").write_text(f'{{"n": 1}}\n{deep}\n{{"n": [[]], "m": "{"[" * 300}"}}\n{{"n": 2}}\n')
    reading = Reading(root, JSON, JsonRule((NUMBER,)))
    answer = reading.run()

    assert [row["n"] for row in reading.rows(answer)] == [1, 2]
    assert answer["quarantined"] == {"the line nests too deeply": 1, "n does not fit int64": 1}


@pytest.mark.parametrize(("text", "name"), [("1\n", "part-00000.parquet"), ("x\n", "_quarantine-00000.parquet")])
def test_a_full_disk_is_said(root: Path, text: str, name: str) -> None:
    (root / "a.log").write_text(text * 5000)
    reading = Reading(root, LOG, TEXT)
    (reading.prepare() / name).symlink_to("/dev/full")

    with pytest.raises(Failure) as caught, on_disk():  # as every child works
        reading.go()
    assert (caught.value.code, caught.value.detail) == (Code.STORAGE_FULL, "the disk is full")
    assert reading.cursor is None


def test_a_folder_that_cannot_be_written_is_no_full_disk(root: Path) -> None:
    (root / "a.log").write_text("1\n")
    reading = Reading(root, LOG, TEXT)
    reading.prepare().rmdir()
    with pytest.raises(OSError, match="part-00000"):
        reading.go()


def test_what_is_written_is_described(root: Path) -> None:
    (root / "a.log").write_text("1 a\n2\n2 b\n")
    reading = Reading(root, LOG, TEXT)
    answer = reading.run()
    (file,) = answer["files"]

    assert (file["rows"], file["path"]) == (3, "run-1/part-00000.parquet")
    assert file["bytes"] == (root.parent / file["path"]).stat().st_size
    assert file["digest"].startswith("sha256:")
    assert reading.rows(answer)[1] == {"n": 2, "word": None}
