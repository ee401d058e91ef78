"""What is remembered of queries: shapes without values, bounded, and old ones counting less."""

from datetime import UTC, datetime, timedelta

import pytest

from services.data.datasets.quality import ColumnQuality
from services.data.partition_advice.history import HALF_LIFE, SHAPES, Counts, Kind, Selector, Shape, folded, shape_of
from services.data.schema import ColumnType
from services.data.sql import check_query

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TYPES = {"id": ColumnType.INT64, "day": ColumnType.DATE, "carrier": ColumnType.STRING, "delay": ColumnType.DOUBLE}
TYPES |= {"wide": ColumnType.DOUBLE}
FOUND = (
    ColumnQuality("id", minimum="0", maximum="1000"),
    ColumnQuality("day", minimum="2026-01-01", maximum="2026-01-31"),
    ColumnQuality("carrier", minimum="AA", maximum="ZZ"),
    ColumnQuality("delay", minimum="5.0", maximum="5.0"),
    ColumnQuality("wide", minimum="-1.7e+308", maximum="1.7e+308"),
)


def shape(where: str, hidden: tuple[str, ...] = ()) -> list[tuple[str, Kind, int]]:
    condition = check_query(f"SELECT id FROM t WHERE {where}", ["t"]).conditions["t"]
    return [(test.column, test.kind, test.step) for test in shape_of(condition, TYPES, FOUND, hidden)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("carrier = 'UA'", [("carrier", Kind.EQUAL, 0)]),
        ("carrier = 'UA' AND id < 250", [("carrier", Kind.EQUAL, 0), ("id", Kind.BELOW, 2)]),
        ("carrier IN ('UA', 'DL', 'B6', 'AA')", [("carrier", Kind.AMONG, 2)]),
        ("carrier = 'UA' OR carrier = 'DL'", [("carrier", Kind.AMONG, 1)]),
        ("id BETWEEN 100 AND 225", [("id", Kind.RANGE, 3)]),
        ("id >= 100 AND id < 350", [("id", Kind.RANGE, 2)]),
        ("day >= DATE '2026-01-16'", [("day", Kind.ABOVE, 1)]),
        ("id BETWEEN 0 AND 100 OR id BETWEEN 400 AND 500", [("id", Kind.RANGE, 1)]),
        ("id = 3 OR carrier = 'UA'", []),
        ("id = 3 OR id > 900", []),
        ("delay > 7", [("delay", Kind.ABOVE, -1)]),
        ("wide > 1e308", [("wide", Kind.ABOVE, -1)]),
        ("id > 5000", [("id", Kind.ABOVE, 20)]),
        ("carrier IS NULL", []),
        ("other = 3", []),
        ("1 = 1", []),
    ],
)
def test_a_condition_is_remembered_by_its_form(where: str, expected: list[tuple[str, Kind, int]]) -> None:
    assert shape(where) == expected


def test_hidden_columns_are_not_remembered() -> None:
    assert shape("carrier = 'UA' AND id = 3", ("Carrier",)) == [("id", Kind.EQUAL, 0)]


def test_old_queries_count_less_and_the_least_are_forgotten() -> None:
    shapes: list[Shape] = [(Selector(f"c{number}", Kind.EQUAL),) for number in range(SHAPES + 5)]
    before = folded([], {each: Counts(2) for each in shapes[:SHAPES]}, NOW)
    later = NOW + timedelta(seconds=HALF_LIFE)
    found = {asked.shape: asked for asked in folded(before, {shapes[0]: Counts(1), shapes[-1]: Counts(1)}, later)}

    assert len(found) == SHAPES
    assert (found[shapes[0]].weight, found[shapes[0]].counts.queries) == (2.0, 3)
    assert found[shapes[-1]].weight == 1.0, "a new one takes the place of one that counts as little"
    assert found[shapes[1]].weight == pytest.approx(1.0)
