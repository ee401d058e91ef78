"""What each kind of step does to rows, beside pandas and formulas of our own."""

import math
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.cleaning.changes import bounded
from services.data.cleaning.kinds import Convert, Duplicates, FillMissing, FindMissing, Kind, Outliers
from services.data.cleaning.kinds_values import Smooth, Spellings
from services.data.schema import ColumnType
from tests.data.cleaning.cleaned import clean, preview, quarantined

WEIGHTS = [1.0, None, 3.0, math.nan, 10.0, 2.0, 2.0]


def test_texts_that_mean_missing_become_null_and_other_columns_stay(tmp_path: Path) -> None:
    rows = {"a": ["x", " N/A ", "", "-", "nan", "0", None], "b": ["-"] * 7, "n": [1, 2, 3, 4, 5, 6, 7]}
    found, told = clean(tmp_path, rows, FindMissing(("a",)))
    own, _ = clean(tmp_path, rows, FindMissing(texts=("0", "X")))

    assert found.column("a").to_pylist() == ["x", None, None, None, None, "0", None]
    assert found.column("b").to_pylist() == ["-"] * 7
    assert own.column("a").to_pylist() == [None, " N/A ", "", "-", "nan", None, None]
    (report,) = told["report"]
    assert [(one["column"], one["changed"]) for one in report["columns"]] == [("a", 4)]
    assert report["columns"][0]["examples"][0] == {"row": 2, "before": " N/A ", "after": None}


@pytest.mark.parametrize("method", ["mean", "median", "mode"])
def test_missing_numbers_are_filled_as_pandas_fills_them(tmp_path: Path, method: str) -> None:
    frame = pd.Series(WEIGHTS)
    value = frame.mode()[0] if method == "mode" else getattr(frame, method)()
    found, told = clean(tmp_path, {"w": WEIGHTS}, FillMissing(("w",), method))

    assert found.column("w").to_pylist() == pytest.approx(frame.fillna(value).to_list(), rel=1e-15)
    assert [float(one["value"]) for one in told["learned"][0]["shown"]] == pytest.approx([value], rel=1e-15)
    assert told["report"][0]["columns"][0]["changed"] == 2


def test_what_is_no_double_is_filled_by_a_value_of_its_type(tmp_path: Path) -> None:
    days = [date(2024, 1, 1), None, date(2024, 1, 2), date(2024, 1, 4)]
    times = [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 1, tzinfo=UTC), None, None]
    rows = pa.table({"n": [2**62, 2**62 + 1, None, 2**62 + 1], "d": days, "t": times, "s": ["b", "a", None, "c"]})
    mean, told = clean(tmp_path, rows, FillMissing(("n", "d", "t"), "mean"), FillMissing(("s",), "mode"))
    median, _ = clean(tmp_path, rows, FillMissing(("n", "d", "t"), "median"))

    assert mean.column("n").to_pylist()[2] == round((3 * 2**62 + 2) / 3) or mean.column("n")[2].as_py() == 2**62 + 1
    assert mean.column("d").to_pylist()[1] == date(2024, 1, 2)
    assert mean.column("t").to_pylist()[2] == datetime(2024, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert mean.column("s").to_pylist()[2] == "a"
    assert median.column("n").to_pylist()[2] == 2**62 + 1
    shown = {one["column"]: one["value"] for one in told["learned"][0]["shown"]}
    assert (shown["d"], shown["t"]) == ("2024-01-02", "2024-01-01T00:00:00.500000Z")


def test_a_constant_fills_and_a_column_without_a_value_stays_as_it_is(tmp_path: Path) -> None:
    rows = pa.table({"n": [1, None], "e": pa.array([None, None], pa.float64())})
    found, told = clean(tmp_path, rows, FillMissing(("n",), "constant", "-7"), FillMissing(("e",), "mean"))

    assert found.to_pylist() == [{"n": 1, "e": None}, {"n": -7, "e": None}]
    assert told["report"][1]["notes"] == ["e has no value to learn from: what is missing stays so"]


def test_rows_with_a_missing_value_are_quarantined_as_they_were_read(tmp_path: Path) -> None:
    found, told = clean(
        tmp_path, {"a": ["1", "x", "-"], "b": [1, 2, 3]}, FindMissing(), FillMissing(("a",), "quarantine")
    )

    assert found.column("b").to_pylist() == [1, 2]
    assert quarantined(tmp_path, told) == [({"a": "-", "b": 3}, "s1: a is missing", "parcels:3")]
    assert told["quarantined"] == {"s1: a is missing": 1}


NUMBERS = [*np.random.default_rng(3).normal(10, 2, 60), 100.0, -80.0, None, math.nan]


@pytest.mark.parametrize("method", ["z_score", "iqr"])
def test_outliers_are_those_beyond_the_bounds_of_the_formulas(tmp_path: Path, method: str) -> None:
    there = pd.Series(NUMBERS, dtype=float).dropna()
    low, high = there.quantile(0.25), there.quantile(0.75)
    reach = 1.5 * (high - low)
    if method == "z_score":
        low = high = there.mean()
        reach = 3 * there.std(ddof=0)
    wrong = [value is not None and (value < low - reach or value > high + reach) for value in NUMBERS]
    marked, told = clean(tmp_path, {"w": NUMBERS}, Outliers(("w",), method, "mark"), group=7)
    clipped, _ = clean(tmp_path, {"w": NUMBERS}, Outliers(("w",), method, "clip"))
    kept, aside = clean(tmp_path, {"w": NUMBERS}, Outliers(("w",), method, "quarantine"))

    assert sum(wrong) >= 2
    assert marked.column("w_outlier").to_pylist() == wrong
    assert clipped.column("w").to_pandas().to_list() == pytest.approx(
        pd.Series(NUMBERS, dtype=float).clip(low - reach, high + reach).to_list(), nan_ok=True
    )
    assert (kept.num_rows, len(quarantined(tmp_path, aside))) == (len(NUMBERS) - sum(wrong), sum(wrong))
    (changed,) = told["report"][0]["columns"]
    assert (changed["column"], changed["changed"], len(changed["examples"])) == (
        "w_outlier",
        sum(wrong),
        min(5, sum(wrong)),
    )
    assert changed["examples"][0] == {"row": wrong.index(True) + 1, "before": None, "after": True}


def test_whole_numbers_are_clipped_to_whole_numbers_and_without_spread_nothing_is_an_outlier(tmp_path: Path) -> None:
    rows = {"n": [1, 2, 3, 4, 90], "same": [0.1 + 0.2, 0.3, 0.3, 0.3, 0.3]}
    found, told = clean(tmp_path, rows, Outliers(("n", "same"), "iqr", "clip"))

    assert found.column("n").to_pylist() == [1, 2, 3, 4, 7]
    assert found.column("same").to_pylist() == rows["same"]
    assert told["report"][0]["notes"] == ["same has no spread: none of its values is an outlier"]


@pytest.mark.parametrize("method", ["z_score", "iqr"])
def test_outliers_among_whole_numbers_that_no_double_holds_are_told(tmp_path: Path, method: str) -> None:
    numbers = [2**60 + n * 2**40 + 1 for n in range(9)] + [1, None]
    step = Outliers(("n",), method, "mark", 2.0)
    marked, _ = clean(tmp_path, {"n": numbers}, step)
    clipped, told = clean(tmp_path, {"n": numbers}, Outliers(("n",), method, "clip", 2.0))
    kept, _ = clean(tmp_path, {"n": numbers}, Outliers(("n",), method, "quarantine", 2.0))

    assert marked.column("n_outlier").to_pylist() == [False] * 9 + [True, False]
    assert clipped.column("n").to_pylist()[:9] == numbers[:9]
    lower = next(one["value"] for one in told["learned"][0]["shown"] if one["name"] == "lower")
    assert clipped.column("n")[9].as_py() == math.ceil(float(lower))
    assert kept.column("n").to_pylist() == [*numbers[:9], None]


def test_of_equal_rows_one_is_kept_and_the_others_are_counted(tmp_path: Path) -> None:
    rows = {"k": ["a", "b", "a", None, None, "b"], "v": [1.0, math.nan, 1.0, 2.0, 2.0, None], "t": [1, 2, 3, 4, 5, 6]}
    whole, told = clean(tmp_path, {name: rows[name] for name in "kv"}, Duplicates())
    key, _ = clean(tmp_path, rows, Duplicates(key=("k",)))
    last, _ = clean(tmp_path, rows, Duplicates(key=("k",), keep="last"))

    assert whole.num_rows == 3  # NULL is NULL, and NaN is one
    assert (told["excluded"], told["counts"]["duplicates"]) == ({"s0: duplicate": 3}, 3)
    assert key.column("t").to_pylist() == [1, 2, 4, 5]
    assert last.column("t").to_pylist() == [3, 4, 5, 6]


def test_an_order_says_which_of_equal_rows_is_kept(tmp_path: Path) -> None:
    rows = {"k": [1, 1, 1, 2, 2], "o": [5.0, None, 3.0, 1.0, 1.0], "n": [0, 1, 2, 3, 4]}
    first, _ = clean(tmp_path, rows, Duplicates(key=("k",), order="o"))
    last, _ = clean(tmp_path, rows, Duplicates(key=("k",), order="o", keep="last"))

    assert first.column("n").to_pylist() == [2, 3]
    assert last.column("n").to_pylist() == [0, 4]


CONVERTED: list[tuple[Convert, list[str | None], list[Any]]] = [
    (Convert(("x",), ColumnType.INT64), ["1", " -7 ", None, "9223372036854775807"], [1, -7, None, 2**63 - 1]),
    (Convert(("x",), ColumnType.DOUBLE), ["1.5", "-.5", "1e3", "2."], [1.5, -0.5, 1000.0, 2.0]),
    (
        Convert(("x",), ColumnType.DOUBLE, decimal_sign=",", thousands_sign="."),
        ["1.234,56", "12,5", "1.000.000", "7"],
        [1234.56, 12.5, 1e6, 7.0],
    ),
    (
        Convert(("x",), ColumnType.DOUBLE, decimal_sign=",", thousands_sign=" "),
        ["1 234,5", "1\u00a0234,5", "1\u202f234"],
        [1234.5, 1234.5, 1234.0],
    ),
    (Convert(("x",), ColumnType.INT64, thousands_sign="'"), ["1'000", "1\u2019000'000"[:5], "12"], [1000, 1000, 12]),
    (Convert(("x",), ColumnType.BOOL), ["Yes", "no", "TRUE", "0"], [True, False, True, False]),
    (Convert(("x",), ColumnType.BOOL, true_texts=("ja",), false_texts=("nein",)), ["Ja", "nein"], [True, False]),
    (Convert(("x",), ColumnType.DATE, formats=("%d.%m.%Y", "%Y/%m/%d")), ["31.01.2024", "2024/2/29"],
     [date(2024, 1, 31), date(2024, 2, 29)]),
    (Convert(("x",), ColumnType.TIMESTAMP), ["2024-01-01T00:00:00+02:00"], [datetime(2023, 12, 31, 22, tzinfo=UTC)]),
    (
        Convert(("x",), ColumnType.TIMESTAMP, zone="Europe/Berlin"),
        ["2024-07-01 12:00:00", "2024-07-01T12:00:00Z", "2024-10-27 02:30:00"],
        [datetime(2024, 7, 1, 10, tzinfo=UTC), datetime(2024, 7, 1, 12, tzinfo=UTC),
         datetime(2024, 10, 27, 0, 30, tzinfo=UTC)],
    ),
    (
        Convert(("x",), ColumnType.TIMESTAMP, formats=("%d %b %Y %I:%M %p", "%d.%m.%y %H:%M %z"), zone="Asia/Tokyo"),
        ["03 Feb 2024 09:00 AM", "03.02.24 09:00 +0100"],
        [datetime(2024, 2, 3, 0, tzinfo=UTC), datetime(2024, 2, 3, 8, tzinfo=UTC)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("step", "texts", "values"), CONVERTED, ids=lambda one: getattr(one, "type", ""))
def test_texts_become_values(tmp_path: Path, step: Convert, texts: list[str | None], values: list[Any]) -> None:
    found, told = clean(tmp_path, pa.table({"x": pa.array(texts, pa.string())}), step)

    assert found.column("x").to_pylist() == values
    assert told["report"][0]["columns"][0]["changed"] == sum(text is not None for text in texts)


UNREADABLE: list[tuple[Convert, list[str]]] = [
    (Convert(("x",), ColumnType.INT64), ["1.0", "1e3", "", "9223372036854775808", "0x10", "१२"]),
    (Convert(("x",), ColumnType.DOUBLE), ["1,5", "nan", "inf", "1e999", "--1", "1" * 101]),
    (Convert(("x",), ColumnType.DOUBLE, decimal_sign=",", thousands_sign="."), ["1.23,4", "1,234.5", "1.2345"]),
    (Convert(("x",), ColumnType.BOOL), ["maybe", "2", ""]),
    (Convert(("x",), ColumnType.DATE, formats=("%d.%m.%Y",)), ["30.02.2024", "2024-01-01"]),
    (Convert(("x",), ColumnType.TIMESTAMP, zone="Europe/Berlin"), ["2024-03-31 02:30:00", "0001-01-01 00:00:00", "?"]),
]  # fmt: skip


@pytest.mark.parametrize(("step", "texts"), UNREADABLE, ids=lambda one: getattr(one, "type", ""))
def test_texts_that_are_no_values_are_quarantined_each_with_its_reason(
    tmp_path: Path, step: Convert, texts: list[str]
) -> None:
    found, told = clean(tmp_path, {"x": texts, "n": list(range(len(texts)))}, step)

    assert found.num_rows == 0
    assert quarantined(tmp_path, told) == [
        ({"x": text, "n": number}, f"s0: x is no {step.type}", f"parcels:{number + 1}")
        for number, text in enumerate(texts)
    ]


STEPS: list[Kind] = [
    FindMissing(),
    Convert(("w",), ColumnType.DOUBLE, decimal_sign=","),
    Spellings(("k",), (("c", "b"),)),
    Smooth(("w",), 3, "w", ("k",)),
    Outliers(("w",), "forest", "quarantine", fraction=0.1),
    Outliers(("w",), "iqr", "quarantine", 1.0),
    FillMissing(("w",), "median"),
    Duplicates(key=("k",), order="w"),
    FillMissing(("k",), "quarantine"),
]
ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "-", None]), st.sampled_from(["1", "2,5", "1000", "x", "?", None])),
    min_size=1,
    max_size=40,
)


@settings(max_examples=20)  # each cleans twice, with a forest
@given(rows=ROWS, order=st.permutations(range(2)), again=ROWS)
def test_no_row_is_lost_whatever_the_rows_are(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], order: list[int], again: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("property")
    learned = None
    steps = [STEPS[index] for index in order] + STEPS[2:] if order == [0, 1] else STEPS
    for given_rows in (rows, again):  # the second time with what the first has taught
        names = [f"{number}" for number in range(len(given_rows))]
        kinds = [pa.string()] * 3
        columns = [names, *zip(*given_rows, strict=True)]
        table = pa.table([pa.array(list(c), k) for c, k in zip(columns, kinds, strict=True)], ["id", "k", "w"])
        found, told = clean(folder, table, *steps, learned=learned, group=4)
        counts, broken = told["counts"], quarantined(folder, told)
        learned = told["learned"]

        stayed = found.column("id").to_pylist() if found.num_rows else []
        aside = [record["id"] for record, _, _ in broken]
        assert counts["rows_in"] == len(given_rows) == len(stayed) + len(aside) + counts["duplicates"]
        assert (counts["rows_out"], counts["quarantined"]) == (len(stayed), len(aside))
        assert max(Counter([*stayed, *aside]).values(), default=1) == 1
        assert stayed == sorted(stayed, key=int)
        by_id = dict(zip(names, given_rows, strict=True))
        assert all((record["k"], record["w"]) == by_id[record["id"]] for record, _, _ in broken)
        assert sum(told["quarantined"].values()) == len(aside)
        assert [step["rows_out"] for step in told["report"]][:-1] == [step["rows_in"] for step in told["report"]][1:]


def test_what_was_learned_once_is_used_on_other_rows(tmp_path: Path) -> None:
    steps: list[Kind] = [FillMissing(("w",), "mean"), Outliers(("w",), "z_score", "clip", 1.0)]
    _, first = clean(tmp_path, {"w": [1.0, 3.0, None]}, *steps)
    found, second = clean(tmp_path, {"w": [None, 50.0]}, *steps, learned=first["learned"])

    assert found.column("w").to_pylist() == [2.0, 2.0 + math.sqrt(2 / 3)]
    assert second["learned"] == first["learned"]


def test_a_preview_shows_rows_before_and_after_and_those_that_are_taken_out(tmp_path: Path) -> None:
    rows = {"k": ["a", "a", "b", "c"], "w": ["1", "1", "x", "4"]}
    told = preview(tmp_path, rows, Duplicates(), Convert(("w",), ColumnType.INT64), most=3)

    assert told["counts"] == {"rows_in": 3, "rows_out": 1, "quarantined": 1, "duplicates": 1}
    assert told["rows"] == [
        {"row": 1, "before": {"k": "a", "w": "1"}, "after": {"k": "a", "w": 1}, "reason": ""},
        {"row": 2, "before": {"k": "a", "w": "1"}, "after": None, "reason": "duplicate"},
        {"row": 3, "before": {"k": "b", "w": "x"}, "after": None, "reason": "s1: w is no int64"},
    ]


def test_a_preview_of_marks_shows_the_rows_that_are_marked(tmp_path: Path) -> None:
    told = preview(tmp_path, {"n": [float(n % 5) for n in range(50)] + [99.0]}, Outliers(("n",), "iqr", "mark"))
    assert told["rows"] == [
        {"row": 51, "before": {"n": 99.0}, "after": {"n": 99.0, "n_outlier": True}, "reason": ""},
    ]


def test_a_report_of_very_many_columns_fits_into_an_answer() -> None:
    example = {"row": 1, "before": "x" * 200, "after": "y" * 200}
    columns = [{"column": f"{number:>100}", "changed": 1, "examples": [example] * 5} for number in range(2000)]
    report = {"step": "s", "rows_in": 1, "quarantined": 0, "duplicates": 0, "rows_out": 1, "notes": ["first"]}
    first, second = bounded([{**report, "columns": columns}, {**report, "columns": columns * 4}])

    assert len(orjson.dumps([first, second])) < 2**20 + 2**14  # and commas
    assert (len(first["columns"]), len(first["columns"][0]["examples"]), first["notes"]) == (2000, 5, ["first"])
    assert first["columns"][-1]["examples"] == []
    assert 0 < len(second["columns"]) < 8000
    assert second["notes"] == ["first", "more columns were changed than are named"]
