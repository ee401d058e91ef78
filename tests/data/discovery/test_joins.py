import pytest

from services.data.discovery.joins import Column, Join, joins, keys
from tests.data.discovery.schemas import accuracy


def found(*columns: Column, whole: frozenset[str] = frozenset()) -> list[Join]:
    return joins(columns, whole)


def test_keys_and_joins_of_databases_that_were_made_up_are_found() -> None:
    measured = accuracy(range(500, 515))

    assert min(measured["keys"]) >= 0.97
    precision, recall = measured["joins"]
    assert precision >= 0.92
    assert recall >= 0.92


def test_numbers_as_text_and_as_numbers_are_the_same() -> None:
    (join,) = found(Column("a", "id", range(1, 100)), Column("b", "a_id", ["7", "8.0", "9", 10.0] * 9 + [None]))

    assert (join.source, join.column, join.key_source, join.key_column) == ("b", "a_id", "a", "id")
    assert (join.records, join.matched, join.counter_examples) == (37, 27, ("8.0",))
    assert join.interval[0] < join.precision < join.interval[1]
    assert "so there may be more" in join.reason


def test_what_was_read_whole_is_not_said_to_have_more() -> None:
    (join,) = found(Column("a", "id", range(9)), Column("b", "a_id", [1, 2, 3] * 9), whole=frozenset("a"))

    assert "may be more" not in join.reason


@pytest.mark.parametrize("name", ["quantity", "age"])
def test_small_numbers_are_no_reference(name: str) -> None:
    assert not found(Column("a", "id", range(1, 100)), Column("b", name, list(range(18, 60)) * 9))


def test_a_source_may_refer_to_itself() -> None:
    tree = (
        Column("people", "id", [f"p{n}" for n in range(50)]),
        Column("people", "boss", ["p1", "p2", "p3", "p4", "p5"] * 10),
    )
    (join,) = found(*tree)

    assert join.sql == 'SELECT * FROM "people" AS a LEFT JOIN "people" AS b ON a."boss" = b."id"'


@pytest.mark.parametrize(
    "values",
    [[1, 2, None], [1, 2, 2], [1.5, 2.5, 3.5], [True, False, None], ["2026-01-01", "2026-01-02", "2026-01-03"]],
)
def test_what_is_missing_twice_there_or_no_name_of_a_thing_is_no_key(values: list[object]) -> None:
    assert not keys([Column("a", "id", values)])
