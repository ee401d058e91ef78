"""What happens to rules and sources, without a database."""

from datetime import UTC, datetime, timedelta

import pytest

from services.data.reading.kinds import Compiled, FileFormat, FilesSource, SqlSource
from services.data.rules import domain as rules
from services.data.rules.domain import Rule, Trial
from services.data.sources import domain as sources
from services.data.sources.domain import Change, Source
from services.kit.errors import Code, Failure
from services.kit.resources import deleted, undeleted

NOW = datetime(2013, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
RULE = Rule("r", "s", "d", NOW, NOW)
TABLE = SqlSource("sqlite:///a.db", "t", "id")
SOURCE = Source("s", "old", TABLE, NOW, NOW)


def code_of(caught: "pytest.ExceptionInfo[Failure]") -> Code:
    return caught.value.code


def test_every_change_of_a_rule_is_a_generation() -> None:
    wider = rules.extended(RULE, LATER)
    active = rules.activated(wider, 2, "2", LATER)
    gone = deleted(active, "r", "3", LATER)
    back = undeleted(gone, LATER)

    assert [rule.generation for rule in (RULE, wider, active, gone, back)] == [1, 2, 3, 4, 5]
    assert (wider.latest_version, wider.active_version, active.active_version) == (2, 0, 2)
    assert (gone.delete_time, back.delete_time) == (LATER, None)


def test_what_changes_nothing_is_no_generation() -> None:
    active = rules.activated(RULE, 1, "", LATER)
    assert rules.activated(active, 1, "", LATER) is active


@pytest.mark.parametrize("version", [-1, 0, 2])
def test_a_version_that_is_not_there_cannot_be_active(version: int) -> None:
    with pytest.raises(Failure) as caught:
        rules.activated(RULE, version, "", LATER)
    assert code_of(caught) is Code.UNKNOWN_VERSION


def test_extractions_need_an_active_version() -> None:
    with pytest.raises(Failure, match="r has no active version"):
        rules.active(RULE)
    assert rules.active(rules.activated(RULE, 1, "1", LATER)) == 1


def test_coverage_of_nothing_is_nothing() -> None:
    assert Trial(0, 0, (), (), Compiled(())).coverage == 0
    assert Trial(4, 1, (), (), Compiled(())).coverage == 0.25


@pytest.mark.parametrize("etag", ["", "*", "1"])
def test_an_update_keeps_what_it_does_not_name(etag: str) -> None:
    described = sources.changed(SOURCE, Change(description=""), etag, LATER)
    moved = sources.changed(described, Change(definition=FilesSource(FileFormat.TEXT, "*.log")), "", LATER)

    assert (described.description, described.definition, described.generation) == ("", TABLE, 2)
    assert (moved.description, moved.generation, moved.update_time) == ("", 3, LATER)


def test_a_stale_etag_changes_nothing() -> None:
    for change in (
        lambda: sources.changed(SOURCE, Change(description="new"), "7", LATER),
        lambda: rules.activated(RULE, 1, "7", LATER),
    ):
        with pytest.raises(Failure) as caught:
            change()
        assert code_of(caught) is Code.ETAG_MISMATCH


def test_a_deleted_source_is_not_found() -> None:
    for missing in (None, deleted(SOURCE, "s", "1", LATER)):
        with pytest.raises(Failure) as caught:
            sources.existing(missing, "s")
        assert code_of(caught) is Code.NOT_FOUND
    assert sources.existing(SOURCE, "s") is SOURCE


@pytest.mark.parametrize(
    "files",
    [
        FilesSource(FileFormat.CSV),
        FilesSource(FileFormat.CSV, "*.csv", "sha256:" + "0" * 64),
        FilesSource(FileFormat.CSV, "*.csv", delimiter='"'),
        FilesSource(FileFormat.CSV, "*.csv", delimiter="\n"),
        FilesSource(FileFormat.CSV, "*.csv", record_start="x"),
        FilesSource(FileFormat.TEXT, "*.log", record_lines=5),
        FilesSource(FileFormat.TEXT, "*.log", record_start="x", record_lines=10_001),
        FilesSource(FileFormat.TEXT, "*.log", record_start="x", record_bytes=-1),
        FilesSource(FileFormat.TEXT, "*.log", record_start="x", record_wait_seconds=86_401),
    ],
)
def test_files_that_cannot_be_are_refused(files: FilesSource) -> None:
    with pytest.raises(Failure) as caught:
        sources.check(files)
    assert code_of(caught) is Code.INVALID_VALUE


def test_a_start_of_records_is_a_pattern_of_re2() -> None:
    with pytest.raises(Failure, match=r"^record_start: the pattern is not supported") as caught:
        sources.check(FilesSource(FileFormat.TEXT, "*.log", record_start="(?=x)"))
    assert code_of(caught) is Code.PATTERN_UNSUPPORTED
