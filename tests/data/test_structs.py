from datetime import UTC, date, datetime
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

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
