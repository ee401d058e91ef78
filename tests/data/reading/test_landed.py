"""A record that landed comes back as it was read."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.data.reading import landed
from services.data.reading.formats import Records
from services.data.reading.kinds import FileFormat, FilesSource
from services.data.reading.landed import KINDS, LandedRecords

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | TEXTS | st.binary()
NAMES = st.lists(TEXTS, min_size=1, max_size=5, unique=True)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or (one, math.copysign(1, one)) == (
            other,
            math.copysign(1, other),
        )
    return type(one) is type(other) and bool(one == other)


@given(st.data(), NAMES)
def test_values_of_rows_come_back_with_their_types_and_names(data: st.DataObject, names: list[str]) -> None:
    row = [data.draw(VALUES) for _ in names]
    record, fields = landed.unpacked(landed.packed(row, names), KINDS[Records.ROWS])

    assert list(fields) == names
    assert all(same(one, other) for one, other in zip(row, record, strict=True))


@given(TEXTS)
def test_a_line_is_itself(line: str) -> None:
    assert landed.packed(line, ()) == line
    assert landed.unpacked(line, KINDS[Records.LINES]) == (line, ())


@pytest.mark.parametrize("document", [{}, {"a": {"$bytes": "00"}}, {"b": [1, {"c": None}], "a": 1.0}])
def test_a_document_is_itself_also_where_it_looks_like_a_marked_value(document: dict[str, Any]) -> None:
    text = landed.packed(document, ())
    assert landed.unpacked(text, KINDS[Records.DOCUMENTS]) == (document, ())
    assert list(landed.unpacked(text, KINDS[Records.DOCUMENTS])[0]) == list(document)


def test_a_number_that_has_more_than_64_bits_lands_as_it_is_written() -> None:
    assert landed.packed({"n": 2**70}, ()) == '{"n": 1180591620717411303424}'


def test_what_a_child_is_told_is_what_it_reads() -> None:
    source = FilesSource(FileFormat.CSV, pattern="a.csv", null_values=("NA",))
    records = LandedRecords(source, ("r/part-0.parquet",), 3, 9, (("id", "INTEGER"),))
    assert LandedRecords.from_json(records.to_json()) == records
