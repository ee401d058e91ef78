"""Arrays of documents taken apart: rows of elements, with what stands around them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.reading import arrays, extractor, paths, vectors
from services.data.reading.extractor import Extractor, Refusal
from services.data.reading.kinds import (
    Compiled,
    CompiledInner,
    RuleColumn,
    compiled_from_json,
    compiled_to_json,
)
from services.data.schema import ColumnType

ORDER = {
    "id": 7,
    "lines": [
        {"sku": "a", "n": 1, "lots": [{"at": "x"}, {"at": "y"}]},
        {"sku": "b", "lots": []},
        {"sku": None, "n": 3},
    ],
    "tags": ["new", None, "red"],
    "grid": [[1, 2], [3]],
}


def ready(*said: str, keep_empty: bool = False, **kinds: ColumnType) -> Extractor:
    columns = tuple(
        RuleColumn(f"c{place}", path, kinds.get(f"c{place}", ColumnType.STRING)) for place, path in enumerate(said)
    )
    steps = tuple(map(paths.parse, said))
    compiled = Compiled(columns, paths=steps, keep_empty=keep_empty)
    return extractor.for_documents(compiled_from_json(compiled_to_json(compiled)))


def rows(record: Any, *said: str, keep_empty: bool = False) -> list[tuple[Any, ...]] | str:
    found = ready(*said, keep_empty=keep_empty).rows(record)
    return found.reason if isinstance(found, Refusal) else list(found)


def test_each_element_is_a_row_with_what_is_around_it() -> None:
    assert rows(ORDER, "$.lines[*].sku", "$.id") == [("a", "7"), ("b", "7"), (None, "7")]
    assert rows(ORDER, "$.tags[*]") == [("new",), (None,), ("red",)]
    assert rows(ORDER, "$.grid[*][*]", "$.id") == [("1", "7"), ("2", "7"), ("3", "7")]
    assert rows(ORDER, "$.grid[*][0]") == [("1",), ("3",)]


@pytest.mark.parametrize(
    ("keep", "found"),
    [
        (False, [("a", "x"), ("a", "y")]),
        (True, [("a", "x"), ("a", "y"), ("b", None), (None, None)]),
    ],
)
def test_arrays_in_arrays_and_empty_ones(keep: bool, found: list[Any]) -> None:
    assert rows(ORDER, "$.lines[*].sku", "$.lines[*].lots[*].at", keep_empty=keep) == found


@pytest.mark.parametrize("value", [{}, {"a": None}, {"a": []}])
def test_no_elements_are_no_row_or_one_without_them(value: Any) -> None:
    assert rows({"id": 1, **value}, "$.id", "$.a[*].b") == []
    assert rows({"id": 1, **value}, "$.id", "$.a[*].b", keep_empty=True) == [("1", None)]


def test_what_is_no_array_or_gives_too_much_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows({"a": {"b c": "x"}}, "$.a['b c'][*]") == "$.a['b c'] is not an array"
    monkeypatch.setattr(arrays, "ROWS", 3)
    monkeypatch.setattr(arrays, "REPEATED", 20)
    assert rows({"a": [1, 2, 3]}, "$.a[*]") == [("1",), ("2",), ("3",)]
    assert rows({"a": [1, 2, 3, 4]}, "$.a[*]") == "the record gives more than 3 rows"
    assert rows({"a": [1, 2], "b": "x" * 11}, "$.a[*]", "$.b") == (
        "the texts around the array repeat to more than 4 MiB"
    )


def test_texts_around_empty_arrays_repeat_as_far_as_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "REPEATED", 20)
    said = ("$.t", "$.a[*].b[*]")
    assert rows({"t": "x" * 10, "a": [{"b": []}, {}]}, *said, keep_empty=True) == [("x" * 10, None)] * 2
    assert rows({"t": "x" * 11, "a": [{"b": []}, {}]}, *said, keep_empty=True) == (
        "the texts around the array repeat to more than 4 MiB"
    )
    assert rows({"t": "x" * 30, "a": []}, *said, keep_empty=True) == [("x" * 30, None)]


def test_a_record_is_refused_whole() -> None:
    number = ready("$.a[*].n", "$.id", c0=ColumnType.INT64)
    good, bad = {"id": "g", "a": [{"n": 1}, {"n": 2}]}, {"id": "b", "a": [{"n": 1}, {"n": "x"}]}
    assert number.rows(bad) == Refusal("c0 does not fit int64")
    typed = vectors.extract(number, [good, bad, {"id": "n", "a": 5}, good])

    assert typed.refused == [(1, "c0 does not fit int64"), (2, "$.a is not an array")]
    assert [row for piece in typed.pieces for row in piece[1].to_pylist()] == ["g"] * 4


def test_rules_inside_read_texts_of_elements() -> None:
    columns = (RuleColumn("id", "$.id", ColumnType.INT64), RuleColumn("n", "n", ColumnType.INT64))
    inner = CompiledInner("$.a[*].t", paths.parse("$.a[*].t"), Compiled(columns[1:], pattern=r"n=(?P<n>\d+)"))
    compiled = Compiled(columns, paths=(paths.parse("$.id"),), inner=(inner,))
    made = extractor.of(compiled, (), ())
    record = {"id": 1, "a": [{"t": "n=5"}, {}, {"t": "n=7"}]}

    assert made.rows(record) == [(1, 5), (1, None), (1, 7)]
    assert made.rows({"id": 1, "a": [{"t": "?"}]}) == Refusal("$.a[*].t does not match")
    assert vectors.extract(made, [record] * 40).pieces[0][1].to_pylist() == [5, None, 7] * 40


@pytest.mark.parametrize(("value", "row"), [({"n": 1}, (None,)), ([1], (None,)), (None, (None,)), (2, (2,))])
def test_an_object_is_no_value_of_a_variant_column(value: Any, row: tuple[Any]) -> None:
    made = [
        extractor.for_documents(Compiled((RuleColumn("a", "a", ColumnType.INT64, variant=variant),), paths=(("a",),)))
        for variant in (True, False)
    ]
    alone = [one.row({"a": value}) for one in made]
    together = [vectors.extract(one, [{"a": value}] * 100) for one in made]
    refused = isinstance(value, dict | list)

    assert alone == [row, Refusal("a does not fit int64") if refused else row]
    assert [len(one.refused) for one in together] == [0, 100 * refused]


VALUES: st.SearchStrategy[Any] = st.sampled_from([1, 2, "3", "x", None, {}, [], 2.5])
ELEMENTS = st.fixed_dictionaries({}, optional={"n": VALUES, "in": st.lists(VALUES, max_size=3) | VALUES}) | VALUES


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({}, optional={"id": VALUES, "a": st.lists(ELEMENTS, max_size=4) | VALUES}), max_size=90
    ),
    st.booleans(),
)
def test_records_are_taken_apart_together_as_they_are_alone(documents: list[Any], keep: bool) -> None:
    made = ready("$.id", "$.a[*].n", "$.a[*].in[*]", keep_empty=keep, c1=ColumnType.INT64)
    alone = [made.rows(document) for document in documents]
    typed = vectors.extract(made, documents)

    assert typed.refused == [(place, one.reason) for place, one in enumerate(alone) if isinstance(one, Refusal)]
    found = [row for piece in typed.pieces for row in zip(*(column.to_pylist() for column in piece), strict=True)]
    assert found == [row for one in alone if not isinstance(one, Refusal) for row in one]
