"""Expressions over terms: what ranges and wildcards become."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.logs.search.documents import key_of
from services.logs.search.domain.query import sortable
from services.logs.search.index import Window, _bounds
from services.logs.search.translation import _escaped, between

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(FLOATS, FLOATS, FLOATS)
def test_a_range_of_numbers_is_a_range_of_terms(one: float, other: float, value: float) -> None:
    low, high = sorted((one, other))
    expression = between(sortable(low), sortable(high))

    assert bool(re.fullmatch(expression, sortable(value))) == (low <= value <= high)


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.text(st.characters(codec="utf-8"), max_size=20))
def test_no_letter_of_a_value_is_an_expression(value: str, other: str) -> None:
    assert bool(re.fullmatch(_escaped(value), other)) == (value == other)


@given(st.integers(0, 2**61), st.integers(0, 2**40), st.integers(0, 2**61), st.integers(0, 2**40))
def test_keys_sort_by_time_first(one: int, first: int, other: int, second: int) -> None:
    if one // 1000 < other // 1000:
        assert key_of(one, first) < key_of(other, second)
    assert 0 <= key_of(one, first) < 2**63


@pytest.mark.parametrize(
    ("window", "bounds"),
    [
        (Window(), (None, None)),
        (Window(since=5_000), (key_of(5_000), None)),
        (Window(until=5_000), (None, key_of(5_000))),
        (Window(before=7), (None, 7)),
        (Window(until=5_000, before=7), (None, 7)),
        (Window(until=1_000, before=2**40), (None, key_of(1_000))),
    ],
)
def test_a_window_is_a_range_of_keys(window: Window, bounds: tuple[int | None, int | None]) -> None:
    assert _bounds(window) == bounds
