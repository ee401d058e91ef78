"""What a new version becomes, from what was there and what a run brings."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.datasets.domain import (
    DataSet,
    DataSetVersion,
    Head,
    LineageNode,
    NewVersion,
    WrittenFile,
    extended,
    manifest_digest,
    next_version,
)
from services.data.datasets.quality import ColumnQuality, merge
from services.data.schema import Column, ColumnType
from services.kit.errors import FailedPrecondition

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ID, NAME = Column("id", ColumnType.INT64, False), Column("name", ColumnType.STRING)
EMPTY = Head(DataSet("flights", "", 0, 1, NOW, NOW))
SOURCE = LineageNode("source", "db")


def file(name: str, rows: int = 2, digest: str = "") -> WrittenFile:
    return WrittenFile(f"run/{name}", rows, rows * 10, f"sha256:{digest or name}")


def new(*files: WrittenFile, columns: tuple[Column, ...] = (ID,), append: bool = True, rows: int = 0) -> NewVersion:
    found = tuple(
        ColumnQuality(column.name, 0, 2, "1", "2", 1.5, sum(f.rows for f in files), (5, 9)) for column in columns
    )
    return NewVersion("flights", "r1", files, columns, append, parents=(SOURCE,), statistics=found)


def head(made: DataSetVersion, *files: WrittenFile) -> Head:
    return Head(replace(EMPTY.data_set, latest_version=made.version), made, files)


def test_the_first_version_is_what_its_run_brought() -> None:
    made = next_version(EMPTY, new(file("a"), file("b", 3)), NOW)

    assert (made.version, made.rows, made.bytes, made.rows_added, made.first_version) == (1, 5, 50, 5, 1)
    assert (made.parents, made.quality.rows, made.quality.columns[0].numbers) == ((SOURCE,), 5, 5)


def test_an_appended_version_is_the_one_before_and_more() -> None:
    first = next_version(EMPTY, new(file("a")), NOW)
    second = next_version(head(first, file("a")), new(file("b", 3)), NOW)

    assert (second.version, second.rows, second.bytes, second.rows_added) == (2, 5, 50, 3)
    assert (second.first_version, second.parents) == (1, (LineageNode("data_set", "flights", 1), SOURCE))
    assert (second.quality.columns[0].numbers, second.quality.columns[0].distinct) == (5, 2)


def test_a_version_that_replaces_begins_anew() -> None:
    first = next_version(EMPTY, new(file("a")), NOW)
    second = next_version(head(first, file("a")), new(file("b", 3), columns=(NAME,), append=False), NOW)

    assert (second.version, second.rows, second.columns, second.first_version) == (2, 3, (NAME,), 2)
    assert second.parents == (SOURCE,)


def test_columns_of_one_side_only_are_null_on_the_other() -> None:
    first = next_version(EMPTY, new(file("a"), columns=(ID, NAME)), NOW)
    gate = Column("gate", ColumnType.STRING, False)
    second = next_version(head(first, file("a")), new(file("b", 3), columns=(ID, gate)), NOW)

    assert [(quality.column, quality.nulls) for quality in second.quality.columns] == [
        ("id", 0),
        ("name", 3),
        ("gate", 2),
    ]
    assert [column.nullable for column in second.columns] == [False, True, True]


def test_a_column_keeps_its_type() -> None:
    with pytest.raises(FailedPrecondition, match="the column id of flights holds int64, the new rows have string"):
        extended([ID], [Column("id", ColumnType.STRING)], "flights")


def test_a_column_that_lost_its_promise_may_be_null() -> None:
    assert extended([ID], [replace(ID, nullable=True)], "flights") == (replace(ID, nullable=True),)
    assert extended([ID, NAME], [ID], "flights") == (ID, NAME)


def test_a_digest_is_of_what_files_hold_in_their_order() -> None:
    one, other = file("a", digest="x"), file("b", digest="x")

    assert manifest_digest([one], [ID]) == manifest_digest([other], [ID])
    assert manifest_digest([file("a"), file("b")], [ID]) != manifest_digest([file("b"), file("a")], [ID])
    assert manifest_digest([one], [ID]) != manifest_digest([one], [NAME])
    assert manifest_digest([one], [ID]) != manifest_digest([one], [replace(ID, nullable=True)])


QUALITIES = st.builds(
    ColumnQuality,
    column=st.just("a"),
    nulls=st.integers(0, 9),
    minimum=st.sampled_from(["", "-10", "9"]),
    maximum=st.sampled_from(["", "10", "9"]),
    mean=st.floats(-9, 9),
    numbers=st.integers(1, 9),
    sketch=st.sets(st.integers(0, 2**64 - 1), max_size=5).map(lambda found: tuple(sorted(found))),
)


@settings(deadline=None)
@given(QUALITIES, QUALITIES)
def test_it_does_not_matter_which_side_is_merged_into_which(one: ColumnQuality, other: ColumnQuality) -> None:
    left, right = merge(one, other, ColumnType.INT64), merge(other, one, ColumnType.INT64)

    assert replace(left, mean=0.0) == replace(right, mean=0.0)
    assert left.mean == pytest.approx(right.mean)


def test_numbers_are_compared_as_numbers() -> None:
    one, other = ColumnQuality("a", minimum="9", maximum="9"), ColumnQuality("a", minimum="10", maximum="10")

    assert merge(one, other, ColumnType.INT64).minimum == "9"
    assert merge(one, other, ColumnType.DOUBLE).maximum == "10"
    assert merge(one, other, ColumnType.STRING).maximum == "9"
