from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.data.reading import paths
from services.data.reading.paths import EACH
from services.kit.errors import InvalidValue

DOCUMENT = {"a": {"b": [1, {"c d": 2}]}, "x": None, "": 3}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$", DOCUMENT),
        ("$.a.b[0]", 1),
        ("$['a'].b[1]['c d']", 2),
        ('$["a"]["b"][1]["c d"]', 2),
        ("a", {"b": [1, {"c d": 2}]}),
        ("$['']", 3),
        ("$.x", None),
        ("$.x.y", None),
        ("$.a.b[7]", None),
        ("$.a.b.c", None),
        ("$.a[0]", None),
        ("$.none", None),
    ],
)
def test_a_path_finds_what_is_there_and_nothing_else(text: str, value: Any) -> None:
    assert paths.find(DOCUMENT, paths.parse(text)) == value


@pytest.mark.parametrize(
    "text", ["$..a", "$.*", "$.a[*", "$.a[**]", "$.a[-1]", "$.a[?(@.b)]", "$a", "$.", "$['a", "$.a b", "$[1234567]"]
)
def test_what_searches_or_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="is not understood at character"):
        paths.parse(text)


def test_a_path_has_a_deepest_step() -> None:
    assert len(paths.parse("$" + ".a" * 32)) == 32
    with pytest.raises(InvalidValue, match="more than 32 steps"):
        paths.parse("$" + ".a" * 33)


@given(
    st.lists(st.one_of(st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True), st.integers(0, 999)), max_size=8)
)
def test_steps_survive_their_text(steps: list[str | int]) -> None:
    text = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    assert paths.parse(text) == tuple(steps)


@given(st.lists(st.one_of(st.text("ab-_.' 1é", max_size=4), st.integers(0, 999), st.just(EACH)), max_size=8))
def test_steps_are_written_as_they_are_read(steps: list[str | int]) -> None:
    assert paths.parse("$" + "".join(map(paths.step, steps))) == tuple(steps)


def test_all_elements_of_an_array_are_no_place_in_it() -> None:
    assert paths.parse("$.a[*].b[*]") == ("a", EACH, "b", EACH)
    assert paths.find({"a": [1, 2]}, ("a", EACH)) is None
