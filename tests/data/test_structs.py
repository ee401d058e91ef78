import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from services.data.structs import to_struct


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        ("text", "text"),
        (5, 5.0),
        (2**53, 2.0**53),
        (2**53 + 1, "9007199254740993"),
        (1.5, 1.5),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (b"\x00\xff", "00ff"),
        (date(2013, 1, 2), "2013-01-02"),
        (datetime(2013, 1, 2, 3, tzinfo=UTC), "2013-01-02T03:00:00Z"),
        ([1, "a", None], [1.0, "a", None]),
        ({"a": {"b": 2**60}}, {"a": {"b": str(2**60)}}),
        ({}, {}),
    ],
)
def test_a_value_is_shown_as_json_can(value: Any, shown: Any) -> None:
    assert MessageToDict(to_struct({"value": value})) == {"value": shown}


def test_a_record_that_nests_deeply_can_be_read_by_every_client() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = {"a": [deep]}
    sent = to_struct({"deep": deep}).SerializeToString()
    assert "deep" in Struct.FromString(sent).fields


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_what_json_can_say_is_said_as_it_is(record: dict[str, Any]) -> None:
    assert MessageToDict(to_struct(record)) == record


@given(st.integers() | st.floats())
def test_no_number_is_changed_on_its_way(number: float) -> None:
    shown = MessageToDict(to_struct({"n": [number]}))["n"][0]

    assert (int(shown) if isinstance(number, int) else float(shown)) == number or number != number


@pytest.mark.parametrize("depth", [7, 8, 9, 50])
def test_what_lies_too_deep_is_told_as_the_text_it_was(depth: int) -> None:
    deep: Any = {"x": [1, "a"]}
    for _ in range(depth):
        deep = [deep]
    shown: Any = MessageToDict(to_struct({"v": deep}))["v"]
    while isinstance(shown, list):
        shown = shown[0]

    assert "x" in (shown if isinstance(shown, dict) else json.dumps(json.loads(shown)))


def test_names_that_are_no_texts_become_texts() -> None:
    assert MessageToDict(to_struct({"v": {1: "a", None: "b"}})) == {"v": {"1": "a", "None": "b"}}
