"""Windows of rows: by their definition, as pandas has them, and the same bytes in batches and one by one."""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.schema import Column, ColumnType
from services.data.series import online, state
from services.data.series.feature import MOST_WINDOW_ROWS, Feature, Statistic, Window
from services.data.series.keys import number_or_text, text_of, texts
from services.data.series.state import KEY, TIME
from services.data.series.stream import FRESH, ORDER, VALUE, Stream
from services.kit.errors import Code, FailedPrecondition, Failure
from tests.data.series import plain
from tests.data.series.plain import FEATURES, Row

INPUTS = (Column("x", ColumnType.DOUBLE), Column("kind", ColumnType.STRING))
KEYS = (Column("key", ColumnType.STRING),)
_NUMBERS = st.one_of(
    st.none(), st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e300, -1e300, float("nan"), float("inf")]), st.floats(-1e6, 1e6)
)
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["a", "b", None]),
            "at": st.integers(-20, 60).map(lambda number: number / 2),
            "x": _NUMBERS,
            "kind": st.sampled_from(["p", "q", "", None]),
        }
    ),
    max_size=60,
)


def prepared(rows: Sequence[Row], first: int = 0) -> pa.Table:
    """Rows as the child prepares and sorts them."""
    columns = {
        KEY: texts([pa.array([row["key"] for row in rows], pa.string())], len(rows)),
        TIME: pa.array([round(row["at"] * 1e6) for row in rows], pa.int64()),
        FRESH: pa.array([True] * len(rows), pa.bool_()),
        ORDER: pa.array(range(first, first + len(rows)), pa.int64()),
        f"{VALUE}x": number_or_text(pa.array([row["x"] for row in rows], pa.float64())),
        f"{VALUE}kind": pa.array([row["kind"] for row in rows], pa.string()),
    }
    return pa.table(columns).sort_by([(name, "ascending") for name in (KEY, FRESH, TIME, ORDER)])


def run(table: pa.Table, size: int = 10_000, features: Sequence[Feature] = FEATURES) -> tuple[dict[str, Any], pa.Table]:
    """The features of all rows in order, and the state, for batches of a size."""
    stream, found, kept = Stream(features, INPUTS), list[dict[str, Any]](), list[Any]()
    for start in range(0, max(table.num_rows, 1), size):
        step = stream.add(table.slice(start, size))
        found.append(step.features)
        kept.append(step.kept)
    kept.append(stream.close())
    columns = {name: [value for part in found for value in part[name].to_pylist()] for name in found[0]}
    return columns, pa.concat_tables(kept)


def same(left: Any, right: Any) -> bool:
    """To the last bit."""
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("<d", left) == struct.pack("<d", right)
    return bool(left == right) and type(left) is type(right)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """As the child sorts them: by key, with NULL behind, then by time; of one time as they came."""
    return sorted(rows, key=lambda row: (row["key"] is None, row["key"] or "", row["at"]))


@settings(max_examples=60, deadline=None)
@given(_ROWS)
def test_features_are_what_their_definition_says(rows: list[Row]) -> None:
    found, _ = run(prepared(rows))
    for index, row in enumerate(in_order(rows)):
        others = [other for other in in_order(rows) if other["key"] == row["key"]]
        for feature in FEATURES:
            expected, got = plain.features(feature, others, row["at"]), found[feature.name][index]
            if isinstance(expected, frozenset):
                assert got in expected, (feature.name, row)
            elif not isinstance(expected, float) or got is None:
                assert got == expected or abs(expected) > 1e290, (feature.name, row)
            else:
                scale = max((abs(o["x"]) for o in others if o["x"] is not None and abs(o["x"]) < 1e299), default=1.0)
                near = abs(got - expected) <= 1e-9 * max(abs(expected), scale)
                assert near or any(o["x"] is not None and abs(o["x"]) > 1e299 for o in others), (feature.name, row)
    assert all(np.isfinite(value) for column in found.values() for value in column if isinstance(value, float))


@settings(max_examples=40, deadline=None)
@given(_ROWS, st.integers(1, 7))
def test_batches_and_single_rows_give_the_same_bytes(rows: list[Row], size: int) -> None:
    whole, kept = run(prepared(rows))
    parts, kept_of_parts = run(prepared(rows), size)
    states: dict[str, pa.Table] = {}
    stepped: dict[str, list[Any]] = {feature.name: [] for feature in FEATURES}
    for row in in_order(rows):
        key, at = text_of(KEYS, [row["key"]]), round(row["at"] * 1e6)
        held = states.get(key, state.empty(INPUTS))
        asked = online.ask(FEATURES, held, at)
        found, states[key] = online.push(FEATURES, held, key, at, row)
        for name, value in found.items():
            assert same(asked[name], value), "what a row gets does not depend on what it holds"
            stepped[name].append(value)

    for name, column in whole.items():
        assert all(map(same, column, parts[name])), name
        assert all(map(same, column, stepped[name])), name
    assert kept.equals(kept_of_parts)
    assert kept.equals(pa.concat_tables([states[key] for key in sorted(states)] or [state.empty(INPUTS)]))


@settings(max_examples=40, deadline=None)
@given(_ROWS, st.integers(0, 59), _NUMBERS)
def test_a_planted_future_value_changes_no_earlier_row(rows: list[Row], at: int, value: float | None) -> None:
    if not rows:
        return
    planted = [dict(row) for row in rows]
    planted[at % len(rows)] |= {"x": value, "kind": "planted"}
    found, _ = run(prepared(rows))
    after, _ = run(prepared(planted))
    since = rows[at % len(rows)]["at"]
    for index, row in enumerate(in_order(rows)):
        if row["at"] <= since:
            assert all(same(found[name][index], after[name][index]) for name in found)


@settings(max_examples=40, deadline=None)
@given(_ROWS, st.integers(0, 60))
def test_a_state_goes_on_as_if_it_had_never_stopped(rows: list[Row], cut: int) -> None:
    """Rows that come in a later run, none of them late."""
    rows = sorted(rows, key=lambda row: row["at"])
    whole, kept = run(prepared(rows))
    _, before = run(prepared(rows[:cut]))
    history = before.rename_columns([KEY, TIME, ORDER, f"{VALUE}x", f"{VALUE}kind"])
    history = history.append_column(FRESH, pa.array([False] * history.num_rows, pa.bool_()))
    later = prepared(rows[cut:], cut)
    table = pa.concat_tables([history.select(later.column_names), later])
    found, after = run(table.sort_by([(name, "ascending") for name in (KEY, FRESH, TIME, ORDER)]))

    order = {id(row): index for index, row in enumerate(in_order(rows))}
    places = [order[id(row)] for row in in_order(rows[cut:])]
    for name, column in found.items():
        assert all(map(same, column, [whole[name][place] for place in places])), name
    assert after.equals(kept)


@pytest.mark.parametrize("statistic", ["sum", "mean", "min", "max", "std", "count"])
def test_sliding_windows_agree_with_pandas(statistic: str) -> None:
    random = np.random.default_rng(5)
    at = np.unique(random.integers(0, 4000, 1500))
    values = np.where(random.random(len(at)) < 0.1, np.nan, random.normal(50, 20, len(at)))
    rows = [{"key": "a", "at": float(t), "x": v, "kind": None} for t, v in zip(at, values, strict=True)]
    ours = Statistic.DEVIATION if statistic == "std" else Statistic(statistic)
    wanted = (
        Feature("by_time", ours, "x", Window.SLIDING, seconds=120),
        Feature("by_rows", ours, "x", Window.ROWS, rows=40),
        Feature("lag", Statistic.LAG, "x", rows=3),
    )
    found, _ = run(prepared(rows), 333, wanted)
    series = pd.Series(values, pd.to_datetime(at, unit="s"))
    options = {"ddof": 0} if statistic == "std" else {}
    by_time = getattr(series.rolling("120s", closed="left", min_periods=0 if statistic == "count" else 1), statistic)
    by_rows = getattr(series.shift(1).rolling(40, min_periods=0 if statistic == "count" else 1), statistic)

    for name, expected in (("by_time", by_time(**options)), ("by_rows", by_rows(**options)), ("lag", series.shift(3))):
        assert np.allclose(np.array(found[name], float), expected.to_numpy(), rtol=1e-9, atol=1e-9, equal_nan=True), (
            name
        )


def test_a_large_number_leaves_no_trace_when_it_has_left() -> None:
    rows = [{"key": "a", "at": float(n), "x": 1e300 if n == 0 else 0.1, "kind": None} for n in range(40)]
    wanted = (
        Feature("s", Statistic.SUM, "x", Window.ROWS, rows=8),
        Feature("d", Statistic.DEVIATION, "x", Window.ROWS, rows=8),
    )
    found, _ = run(prepared(rows), 5, wanted)

    assert found["s"][3] == 1e300
    assert found["s"][30] == pytest.approx(0.8, rel=1e-15)
    assert found["d"][4] is None  # its square is no number
    assert found["d"][30] == 0


def test_a_window_of_too_many_rows_is_refused_by_name() -> None:
    count = MOST_WINDOW_ROWS + 2
    table = pa.table(
        {
            KEY: pa.array(["=a"] * count),
            TIME: pa.array(range(count), pa.int64()),
            FRESH: pa.array([True] * count),
            ORDER: pa.array(range(count), pa.int64()),
            f"{VALUE}x": pa.array(np.zeros(count)),
            f"{VALUE}kind": pa.nulls(count, pa.string()),
        }
    )
    with pytest.raises(Failure, match="the window of much has more than 100000 rows of one key") as refused:
        run(table, 65_536, (Feature("much", Statistic.SUM, "x", Window.SLIDING, seconds=60),))
    assert refused.value.code is Code.LIMIT_EXCEEDED
    kept = run(table, 65_536, (Feature("less", Statistic.SUM, "x", Window.ROWS, rows=4),))[1]
    assert kept.num_rows == 5


def test_a_time_that_is_late_is_refused_online() -> None:
    _, held = online.push(FEATURES, state.empty(INPUTS), "=a", 5_000_000, {"x": 1.0})
    with pytest.raises(FailedPrecondition, match="the time is late"):
        online.ask(FEATURES, held, 4_999_999)
    assert online.ask(FEATURES, held, 5_000_000)["rows_before"] == 0
    assert online.ask(FEATURES, held, 5_000_001)["rows_before"] == 1


def test_keys_are_different_where_values_are() -> None:
    values: list[list[str | None]] = [
        ["a", "b"],
        ["a\x1f=b", ""],
        ["a", None],
        ["a", "~"],
        ["a\\", "b"],
        ["a\\s=b", ""],
        [None, "b"],
        ["", "b"],
    ]
    columns = [pa.array([value[index] for value in values]) for index in range(2)]

    assert len(set(texts(columns, len(values)).to_pylist())) == len(values)
    assert texts([], 3).to_pylist() == ["", "", ""]
