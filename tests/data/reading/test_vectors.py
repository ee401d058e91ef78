"""Typing by columns must come to what typing record by record comes to."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.arrow import arrow_type
from services.data.reading import extractor, vectors
from services.data.reading.extractor import Extractor, Refusal
from services.data.reading.kinds import Compiled, RuleColumn
from services.data.reading.plain import Fields
from services.data.schema import ColumnType

TEXTS = {
    ColumnType.INT64: [
        *("1", "-5", "+7", "9223372036854775807", "9223372036854775808", "1.0", "007", "x"),
        *("--5", "-", "0000000000000000000001"),
    ],
    ColumnType.DOUBLE: ["1.5", "-2", ".5", "5.", "1e3", "1e999", "nan", "inf", "0x10", "x"],
    ColumnType.BOOL: ["true", "false", "True", "1", "0", "no"],
    ColumnType.STRING: ["a", "é", "x" * 300, " "],
    ColumnType.DATE: ["2013-01-01", "1999-12-31", "0999-12-31", "0000-01-01", "2013-02-30", "2013-1-1"],
    ColumnType.TIMESTAMP: [
        "2013-01-01 10:00:00",
        "2013-01-01T10:00:00Z",
        "2013-01-01T10:00:00+01:00",
        "2013-01-01 10:00:00.5",
        "2013-01-01 24:00:00",
        "2013-01-01",
    ],
}
NATIVE = [1, 0, 2.0, 2.5, 2**53 + 1, 1e300, float("nan"), True, False, "1", None, b"x", 2**70]
SOURCES = st.sampled_from(list(ColumnType)).flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        st.booleans(),
        st.lists(st.sampled_from([*TEXTS[kind][:2], *TEXTS[kind], "", "NA", None]), min_size=1, max_size=150),
    )
)


def ready(kind: ColumnType, required: bool = False) -> Extractor:
    compiled = Compiled((RuleColumn("a", "a", kind, required),))
    return extractor.for_fields(compiled, ["a"], frozenset(["", "NA"]))


def one_by_one(ready: Extractor, records: list[Any]) -> tuple[list[Any], list[tuple[int, str]]]:
    found = [ready.row(record) for record in records]
    kind = arrow_type(ready.columns[0].type)
    rows = pa.array([row[0] for row in found if not isinstance(row, Refusal)], kind).to_pylist()
    return rows, [(place, row.reason) for place, row in enumerate(found) if isinstance(row, Refusal)]


def together(ready: Extractor, records: list[Any]) -> tuple[list[Any], list[tuple[int, str]]]:
    typed = vectors.extract(ready, records)
    assert all(piece[0].type == arrow_type(ready.columns[0].type) for piece in typed.pieces)
    values = [value for piece in typed.pieces for value in piece[0].to_pylist()]
    return values, typed.refused


@settings(max_examples=80, deadline=None)
@given(SOURCES)
def test_columns_of_text_are_typed_as_records_are(source: tuple[ColumnType, bool, list[Any]]) -> None:
    kind, required, texts = source
    records = [(text,) for text in texts for _ in range(2)]
    assert together(ready(kind, required), records) == one_by_one(ready(kind, required), records)


@settings(max_examples=80, deadline=None)
@given(SOURCES)
def test_fields_in_columns_are_typed_as_records_are(source: tuple[ColumnType, bool, list[Any]]) -> None:
    kind, required, texts = source
    said = [text or "" for text in texts for _ in range(2)]
    compiled = Compiled((RuleColumn("a", "a", kind, required), RuleColumn("b", "b", kind)))
    fields = Fields([pa.array(said), pa.array(["not asked for"] * len(said))])
    found = vectors.extract(extractor.for_fields(compiled, ["a", "c"], frozenset(["", "NA"])), fields)

    rows, refused = one_by_one(ready(kind, required), [(text,) for text in said])
    assert ([value for piece in found.pieces for value in piece[0].to_pylist()], found.refused) == (rows, refused)
    assert all(piece[1].null_count == len(piece[1]) for piece in found.pieces)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(ColumnType)), st.lists(st.sampled_from(NATIVE), min_size=1, max_size=120))
def test_columns_of_a_database_are_typed_as_records_are(kind: ColumnType, values: list[Any]) -> None:
    records = [(value,) for value in values]
    assert str(together(ready(kind), records)) == str(one_by_one(ready(kind), records))


@pytest.mark.parametrize("kind", list(ColumnType))
@pytest.mark.parametrize("text", [0, 1])
def test_a_plain_column_takes_the_fast_way(kind: ColumnType, text: int) -> None:
    typed = vectors.extract(ready(kind), [(TEXTS[kind][text],)] * 1000)
    assert [len(piece[0]) for piece in typed.pieces] == [1000]


def test_a_broken_record_costs_its_neighbours_only() -> None:
    records: list[Any] = [("1",)] * 10_000
    records[4321] = ("x",)
    typed = vectors.extract(ready(ColumnType.INT64), records)

    assert typed.refused == [(4321, "a does not fit int64")]
    sizes = [len(piece[0]) for piece in typed.pieces]
    assert sum(sizes) == 9_999
    assert min(sizes) < 64


def test_a_missing_value_of_a_required_column_is_refused() -> None:
    typed = vectors.extract(ready(ColumnType.STRING, required=True), [("a",)] * 100 + [("",)])
    assert typed.refused == [(100, "a is missing")]


def test_lines_that_do_not_match_are_refused() -> None:
    compiled = Compiled((RuleColumn("n", "n", ColumnType.INT64),), pattern=r"n=(?P<n>\d*)")
    typed = vectors.extract(extractor.for_lines(compiled), ["n=1"] * 200 + ["m=1", "n="])

    assert typed.refused == [(200, "the line does not match")]
    assert typed.pieces[-1][0].to_pylist()[-1] is None
