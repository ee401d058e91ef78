"""Predictions as columns, and as they come out again."""

import struct
from typing import Any

import pytest

from services.kit.auth import Scope
from services.kit.telemetry import Record, child
from services.kit.telemetry.columns import tables, unpacked
from services.kit.timestamps import uuid7

ACME = Scope("acme")


def prediction(request_id: str = "", trace: str = "", **fields: Any) -> Record:
    """One of a row, as the gateway tells it."""
    request_id = request_id or uuid7()
    own: dict[str, Any] = {"request_id": request_id, "principal": "key:k", "model": "late", "version": 3, "status": 200}
    own |= {"duration_ms": 1.5, "rows": 1, "scores": struct.pack("<d", 0.25)}
    return Record(
        "prediction", "late", "", ACME, own | fields, service="gateway", trace=trace or child("", request_id), time_ns=7
    )


def test_predictions_that_are_alike_are_a_table_and_come_out_as_they_were() -> None:
    predictions = [prediction(rows=count, scores=bytes(8 * count), duration_ms=count / 3) for count in (1, 3, 2)]
    (table,), rest = tables(predictions)

    assert rest == []
    assert table.shared == {"principal": "key:k", "model": "late", "version": 3, "status": 200}
    columns = unpacked(table.columns)
    ids = [bytes.fromhex(one.attributes["request_id"].replace("-", "")) for one in predictions]
    assert (columns.ids, columns.spans.hex()) == (b"".join(ids), "".join(one.trace[36:52] for one in predictions))
    assert [list(column) for column in columns[2:]] == [
        [7, 7, 7],
        [1 / 3, 1.0, 2 / 3],
        [1, 3, 2],
        [bytes(8), bytes(24), bytes(16)],
    ]


def test_what_is_of_another_version_caller_or_tenant_is_a_table_of_its_own() -> None:
    predictions = [prediction(), prediction(version=4), prediction(principal="key:other"), prediction()]
    made, rest = tables([*predictions, prediction(version=4)])

    assert ([unpacked(one.columns).size for one in made], len(rest)) == ([2, 2], 1)


def test_one_that_is_not_so_plain_leaves_the_others_their_table() -> None:
    traced, named, broken = prediction(trace=f"00-{'a' * 32}-{'b' * 16}-01"), prediction("call-1"), prediction(rows=-1)
    plain = [prediction() for _ in range(3)]
    (made,), rest = tables([plain[0], traced, plain[1], named, broken, plain[2]])

    assert unpacked(made.columns).ids.hex() == "".join(one.trace[3:35] for one in plain)
    assert (made.first, rest) == (plain[0], [traced, named, broken])


@pytest.mark.parametrize(
    "odd",
    [
        prediction("call-1"),
        prediction("0192ab00-0000-7000-8000-00000000000G"),
        prediction("0192ab0-00000-7000-8000-000000000000", f"00-{'0192ab00000070008000000000000000'}-{'a' * 16}-01"),
        prediction(uuid7().upper()),
        prediction(trace=f"00-{'a' * 32}-{'b' * 16}-01"),
        prediction(degraded="previous"),
        prediction(rows=-1),
        prediction(duration_ms="long"),
        Record("prediction", "late", "", ACME, {"duration_ms": 2.0}),
        Record("log", "x", "text", ACME),
    ],
)
def test_what_is_not_so_plain_is_told_by_itself(odd: Record) -> None:
    made, rest = tables([odd, odd])

    assert (made, rest) == ([], [odd, odd])


def test_columns_that_are_cut_are_refused_wherever() -> None:
    ((table,), _) = tables([prediction(), prediction()])

    for end in range(len(table.columns)):
        with pytest.raises(ValueError, match="columns"):
            unpacked(table.columns[:end])
    with pytest.raises(ValueError, match="other sizes of scores"):
        unpacked(table.columns + b"x")


def test_columns_of_some_places_are_theirs() -> None:
    ((table,), _) = tables([prediction(rows=count, scores=bytes(8 * count)) for count in (1, 3, 2)])
    whole = unpacked(table.columns)
    some = unpacked(whole.at([2, 0]).packed())

    assert (some.size, list(some.rows), list(map(len, some.scores))) == (2, [2, 1], [16, 8])
    assert (some.ids, some.spans) == (whole.ids[32:] + whole.ids[:16], whole.spans[16:] + whole.spans[:8])
