"""Predictions that are kept together, and are records again."""

import math
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.telemetry.columns import Columns
from services.logs.domain import Record
from services.logs.encoding import dumps, loads, pack, unpack
from services.logs.tables import Table, grouped, records_of, size
from tests.logs.records import record, table

IDS = ["0192ab00-0000-7000-8000-{:012x}", "0192ac00-0000-7000-8000-{:012x}", "0192ab00-0000-4000-8000-{:012x}"]
ROW = st.tuples(
    st.sampled_from([*IDS, "f192ab00-0000-7000-8000-{:012x}"]),
    st.sampled_from([5, 5 + 10**9, 2**64 - 1]),
    st.sampled_from([1.5, 0.0, math.inf]),
    st.sampled_from([1, 2]),
)


@given(st.lists(ROW, min_size=1, max_size=12))
def test_predictions_of_all_kinds_are_each_there_once(rows: list[tuple[str, int, float, int]]) -> None:
    ids = [name.format(at) for at, (name, *_) in enumerate(rows)]
    columns = Columns(
        b"".join(UUID(name).bytes for name in ids),
        bytes(8 * len(rows)),
        [time_ns for _, time_ns, _, _ in rows],
        [duration for _, _, duration, _ in rows],
        [many for *_, many in rows],
        [bytes([at]) for at in range(len(rows))],
    )
    found = grouped(record(0)._replace(record="event-"), 7, columns)
    records = list(records_of(found))

    assert sorted(one.record for one in records) == [f"event-{7 + at:08x}" for at in range(len(rows))]
    assert sum(map(size, found)) == len(rows)
    told = {
        (one.request_id, one.time_ns, one.duration_ms, one.attributes["rows"], one.scores[0], one.trace_id)
        for one in records
    }
    assert told == {
        (name, time_ns, duration if math.isfinite(duration) else None, many, at, name.replace("-", ""))
        for at, (name, (_, time_ns, duration, many)) in enumerate(zip(ids, rows, strict=True))
    }


def test_predictions_of_a_moment_stay_together() -> None:
    (found,) = grouped(record(0), 0, table(5).columns)

    assert isinstance(found, Table)
    assert size(found) == 5


@pytest.mark.parametrize(
    "odd",
    [{"rows": [1, 1, 2]}, {"times": [1, 2, 10**10]}, {"durations": [1.0, 2.0, math.nan]}],
)
def test_one_that_does_not_fit_in_stands_by_itself(odd: dict[str, list[float]]) -> None:
    found = grouped(record(0), 0, table(3).columns._replace(times=[1, 2, 3])._replace(**odd))  # type: ignore[arg-type]

    assert sorted(map(size, found)) == [1, 2]
    assert {type(one) for one in found} == {Table, Record}


def test_a_table_survives_its_bytes() -> None:
    kept: list[Record | Table] = [record(1), table(3), record(2)]

    back = unpack(pack(kept))
    assert list(records_of(back)) == list(records_of(kept))
    assert [type(one) for one in back] == [Record, Table, Record]


def test_the_index_keeps_all_of_a_table_but_the_scores() -> None:
    back = loads(dumps(table(3)))

    assert list(records_of([back])) == [one._replace(scores=b"") for one in table(3).records()]
