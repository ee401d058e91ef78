"""Units, zones, encodings, spellings, noise, and what is predicted: beside pandas and scikit-learn."""

import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsRegressor

from services.data.cleaning.domain import Run
from services.data.cleaning.kinds import FillMissing, FindMissing, Kind, Outliers
from services.data.cleaning.kinds_values import Encoding, Smooth, Spellings, TimeZone, Units
from services.data.cleaning.planning import check_steps, known_zone, origins, planned
from services.data.cleaning.steps import Step, from_json, to_json
from services.data.cleaning.texts import distance
from services.data.cleaning.wire import answer_to_wire, run_to_wire
from services.data.schema import Column, ColumnType
from services.kit.errors import InvalidValue
from tests.data.cleaning.cleaned import clean, quarantined

MEASURES: list[tuple[Units, list[Any], list[float]]] = [
    (Units(("x",), "kg"), ["1 kg", "500g", " 2 LB ", "3,000 mg".replace(",", "")], [1.0, 0.5, 0.90718474, 0.003]),
    (Units(("x",), "km"), ["1 mi", "250 m", "5 ft 3 in", "-2 km"], [1.609344, 0.25, 0.0016002, -2.0]),
    (Units(("x",), "s"), ["1h 30m", "-1 min 30 s", "250ms", "2 days"], [5400.0, -90.0, 0.25, 172_800.0]),
    (Units(("x",), "MiB"), ["1 GiB", "1 MB", "512 kb"], [1024.0, 1e6 / 2**20, 512e3 / 2**20]),
    (Units(("x",), "C"), ["32 °F", "300 K", "-40F"], [0.0, 26.85, -40.0]),
    (Units(("x",), "1"), ["12 %", "3 ‰", "0.5 1".replace(" 1", "%")], [0.12, 0.003, 0.005]),
    (Units(("x",), "kg", assumed_unit="g", decimal_sign=",", thousands_sign="."), ["1.250,5", "2 kg"], [1.2505, 2.0]),
    (
        Units(("x",), "kg", assumed_unit="kg", thousands_sign=" "),
        ["1 234 kg", "12\u202f345 678.5", "1 lb 2 oz"],
        [1234.0, 12345678.5, 0.45359237 * 1.125],
    ),
    (Units(("x",), "in"), ["5' 3\"", "6'"], [63.0, 72.0]),
    (Units(("x",), "km/h"), ["10 m/s", "60 mph"], [36.0, 96.56064]),
    (Units(("x",), "m", assumed_unit="ft"), [1, 10], [0.3048, 3.048]),
]


@pytest.mark.parametrize(("step", "texts", "values"), MEASURES, ids=lambda one: getattr(one, "unit", ""))
def test_measures_come_to_be_in_one_unit(tmp_path: Path, step: Units, texts: list[Any], values: list[float]) -> None:
    found, _ = clean(tmp_path, {"x": texts}, step)
    assert found.column("x").to_pylist() == pytest.approx(values, rel=1e-12, abs=1e-12)


def test_what_is_no_measure_is_quarantined_and_a_column_may_have_the_units(tmp_path: Path) -> None:
    wrong = ["5", "5 km", "kg", "1 kg -2 g", "a few kg", "1 kg 2"]
    _, told = clean(tmp_path, {"x": [*wrong, None]}, Units(("x",), "kg"))
    broken = quarantined(tmp_path, told)
    apart = ["1 234 kg", "1 2 kg", "3 kg"]  # no sums: one part says no unit
    alone, _ = clean(tmp_path, {"x": apart}, Units(("x",), "kg", assumed_unit="kg"))
    found, aside = clean(
        tmp_path, {"n": [1, 2, 3, 4], "u": ["kg", "lb", "km", None]}, Units(("n",), "kg", "g", unit_column="u")
    )

    assert [(record["x"], reason) for record, reason, _ in broken] == [(text, "s0: x is no mass") for text in wrong]
    assert alone.column("x").to_pylist() == [3.0]
    assert found.column("n").to_pylist() == pytest.approx([1.0, 0.90718474, 0.004])
    assert aside["quarantined"] == {"s0: n is no mass": 1}


def test_local_times_become_utc_and_those_that_never_were_are_quarantined(tmp_path: Path) -> None:
    local = [(2024, 1, 1, 12, 0), (2024, 7, 1, 12, 0), (2024, 3, 31, 2, 30), (2024, 10, 27, 2, 30)]
    times = [datetime(*parts, tzinfo=UTC) for parts in local]
    found, told = clean(tmp_path, {"t": [*times, None]}, TimeZone(("t",), "Europe/Berlin"))

    assert found.column("t").to_pylist() == [
        datetime(2024, 1, 1, 11, tzinfo=UTC),
        datetime(2024, 7, 1, 10, tzinfo=UTC),
        datetime(2024, 10, 27, 0, 30, tzinfo=UTC),
        None,
    ]
    assert told["quarantined"] == {"s0: t was never there in Europe/Berlin": 1}


def test_texts_that_were_read_in_the_wrong_encoding_are_read_again_and_others_stay(tmp_path: Path) -> None:
    meant = ["Zoë", "Größe", "naïve café", "€ 5", "日本", "Łódź", "plain"]
    once = [text.encode().decode("cp1252" if "Ł" not in text and "日" not in text else "latin-1") for text in meant]
    twice = [text.encode().decode("latin-1").encode().decode("latin-1") for text in meant]
    fine = [*meant, "NÃO", "Ã", "Âge", "Ã…".replace("…", "Š"), "50 €"]
    found, told = clean(tmp_path, {"x": [*once, *twice, *fine, None]}, Encoding())

    assert found.column("x").to_pylist() == [*meant, *meant, *fine, None]
    assert told["report"][0]["columns"][0]["changed"] == 2 * (len(meant) - 1)


def test_spellings_become_one_but_two_frequent_ones_never(tmp_path: Path) -> None:
    towns = ["Oslo"] * 40 + ["Tromsoe"] * 30 + ["Bodø"] * 20 + ["BODØ"] * 10 + ["Route 12"] * 30
    odd = ["oslo ", "OSLO", "Òslo", "Trmosoe", "tromsoe!", "Tromsø", "Route 13", "Osla", "--", None]
    found, told = clean(tmp_path, {"x": towns + odd}, Spellings(("x",)), group=50)
    names = found.column("x").to_pylist()

    assert names[len(towns) :] == [
        "Oslo", "Oslo", "Oslo", "Tromsoe", "Tromsoe", "Tromsø", "Route 13", "Osla", "--", None
    ]  # fmt: skip
    assert names[: len(towns)] == towns
    assert told["report"][0]["told"] == [{"column": "x", "note": "x: Bodø and BODØ are both frequent"}]
    shown = {one["name"]: one["value"] for one in told["learned"][0]["shown"]}
    assert shown == {"oslo ": "Oslo", "OSLO": "Oslo", "Òslo": "Oslo", "Trmosoe": "Tromsoe", "tromsoe!": "Tromsoe"}


def test_a_note_with_spellings_is_short_and_not_for_who_does_not_see_the_column(tmp_path: Path) -> None:
    rows = {"x": ["A" * 10**4] * 9 + ["a" * 10**4] * 9, "y": ["Oslo"] * 9 + ["OSLO"] * 9}
    _, told = clean(tmp_path, rows, Spellings(("x", "y")), group=50)
    now = datetime(2025, 1, 1, tzinfo=UTC)
    run = Run("r", "tidy", 1, "raw", 1, "clean", "o", "succeeded", now, report=tuple(told["report"]))

    (seen,), (half,), (none,) = (run_to_wire(run).steps, run_to_wire(run, {"x"}).steps, answer_to_wire(run).steps)
    assert [note[:2] for note in seen.notes] == ["x:", "y:"]
    assert max(map(len, seen.notes)) < 500
    assert list(half.notes) == ["y: OSLO and Oslo are both frequent"]
    assert (list(none.notes), none.rows_in) == ([], 18)


def test_a_mapping_comes_first_and_what_was_learned_holds_for_new_rows(tmp_path: Path) -> None:
    step = Spellings(("x",), (("Christiania", "Oslo"), ("OSLO", "Oslo (all)")))
    _, told = clean(tmp_path, {"x": ["Oslo"] * 9 + ["oslo", "Christiania", "OSLO"]}, step)
    found, again = clean(tmp_path, {"x": ["oslo", "Christiania", "OSLO", "oSLO"]}, step, learned=told["learned"])
    only, _ = clean(
        tmp_path, {"x": ["a"] * 9 + ["A", "b"]}, Spellings(("x",), (("b", "a"),), only_mapping=True), group=50
    )

    assert found.column("x").to_pylist() == ["Oslo", "Oslo", "Oslo (all)", "oSLO"]
    assert again["learned"] == told["learned"]
    assert only.column("x").to_pylist() == ["a"] * 9 + ["A", "a"]


@pytest.mark.parametrize(
    ("one", "other", "far"), [("abcde", "abcde", 0), ("abcde", "abdce", 1), ("abcde", "abce", 1), ("abcde", "xbcdy", 2),
                             ("abc", "xyz", 3), ("", "ab", 2)],
)  # fmt: skip
def test_letters_between_two_spellings_are_counted(one: str, other: str, far: int) -> None:
    assert distance(one, other, 2) == far == distance(other, one, 2)


@given(st.text("abc", max_size=9), st.text("abc", max_size=9), st.integers(0, 3))
def test_letters_are_counted_as_a_whole_table_counts_them(one: str, other: str, most: int) -> None:
    table = {(row, 0): row for row in range(len(one) + 1)} | {(0, column): column for column in range(len(other) + 1)}
    for row, column in product(range(1, len(one) + 1), range(1, len(other) + 1)):
        same = one[row - 1] == other[column - 1]
        cost = min(table[row - 1, column] + 1, table[row, column - 1] + 1, table[row - 1, column - 1] + (not same))
        if one[:row][-2:] == other[:column][-2:][::-1] and min(row, column) > 1:
            cost = min(cost, table[row - 2, column - 2] + 1)
        table[row, column] = cost
    assert distance(one, other, most) == min(table[len(one), len(other)], most + 1)


def test_letters_of_long_texts_are_counted_soon() -> None:
    text, begin = "a letter " * 2000, time.process_time()
    assert distance(f"{text}x", f"{text}y", 2) == 1
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(("window", "centered"), [(3, True), (4, True), (5, False), (2, False)])
def test_medians_of_windows_are_those_of_pandas(tmp_path: Path, window: int, centered: bool) -> None:
    random = np.random.default_rng(window)
    frame = pd.DataFrame(
        {
            "k": random.choice(["a", "b", "c"], 60),
            "t": random.permutation(60),
            "v": np.where(random.random(60) < 0.2, np.nan, random.normal(size=60)),
        }
    )
    ordered = frame.sort_values("t")
    rolled = ordered.groupby("k")["v"].rolling(window, min_periods=1, center=centered).median().droplevel(0)
    expected = rolled.reindex(frame.index).where(frame["v"].notna())
    found, _ = clean(
        tmp_path,
        pa.Table.from_pandas(frame, preserve_index=False),
        Smooth(("v",), window, "t", ("k",), centered),
        group=7,
    )

    assert found.column("v").to_pandas().to_list() == pytest.approx(expected.to_list(), nan_ok=True, rel=1e-14)


def test_whole_numbers_are_smoothed_to_whole_ones_and_rows_without_order_stay(tmp_path: Path) -> None:
    rows = pa.table({"v": [1, 100, 4, None, 2], "t": [1.0, 2.0, 3.0, 4.0, math.nan], "k": ["a", "a", "a", "a", "a"]})
    found, _ = clean(tmp_path, rows, Smooth(("v",), 2, "t", ("k",)))
    assert found.column("v").to_pylist() == [1, 50, 52, None, 2]


def test_whole_numbers_that_no_double_holds_stay_where_nothing_is_smoothed(tmp_path: Path) -> None:
    rows = pa.table({"v": [2**60 + 1, 2**63 - 1, 2**63 - 1], "t": [None, 1, 2]})
    found, told = clean(tmp_path, rows, Smooth(("v",), 2, "t"))
    assert found.column("v").to_pylist() == [2**60 + 1, 2**63 - 1024, 2**63 - 1024]
    assert told["report"][0]["columns"][0]["changed"] == 2


@pytest.mark.parametrize("method", ["mean", "median", "mode"])
def test_only_finite_numbers_are_learned(tmp_path: Path, method: str) -> None:
    step, rows = FillMissing(("x",), method), {"x": [math.inf, math.inf, 1.0, None]}
    found, told = clean(tmp_path, rows, step)
    again, _ = clean(tmp_path, rows, step, learned=told["learned"])
    large, _ = clean(tmp_path, {"x": [1.5e308, 1.7e308, None]}, step)

    assert found.column("x").to_pylist() == [math.inf, math.inf, 1.0, 1.0] == again.column("x").to_pylist()
    assert large.column("x").to_pylist()[2] in (None, 1.5e308)


def test_a_forest_grows_on_numbers_of_any_size(tmp_path: Path) -> None:
    rows = {"a": [*map(float, range(50)), math.inf, -math.inf, 1.7e308, -1.7e308]}
    found, _ = clean(tmp_path, rows, Outliers(("a",), "forest", "quarantine", fraction=0.07), group=20)
    assert found.column("a").to_pylist() == rows["a"][:50]


def predicted(rows: int, seed: int) -> pd.DataFrame:
    """Numbers that depend on two others, some missing."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"a": random.normal(5, 2, rows), "b": random.normal(-3, 9, rows)})
    frame["y"] = 3 + 2 * frame["a"] - 0.5 * frame["b"] + random.normal(0, 0.1, rows)
    frame.loc[random.random(rows) < 0.2, "y"] = np.nan
    frame.loc[random.random(rows) < 0.1, "b"] = np.nan
    return frame


@pytest.mark.parametrize("method", ["regression", "nearest"])
def test_missing_numbers_are_predicted_as_scikit_learn_predicts_them(tmp_path: Path, method: str) -> None:
    frame = predicted(200, 5)
    there = frame["y"].notna()
    known = frame.loc[there, ["a", "b"]]
    scaled = (frame[["a", "b"]].fillna(known.mean()) - known.mean()) / known.fillna(known.mean()).std(ddof=0)
    model = LinearRegression() if method == "regression" else KNeighborsRegressor(7)
    model.fit(scaled[there].to_numpy(), frame.loc[there, "y"])
    expected = frame["y"].where(there, pd.Series(model.predict(scaled.to_numpy())))
    step = FillMissing(("y",), method, predictors=("a", "b"), neighbors=7 if method == "nearest" else 0)
    found, told = clean(tmp_path, pa.Table.from_pandas(frame, preserve_index=False), step, group=64)

    assert found.column("y").to_pandas().to_list() == pytest.approx(expected.to_list(), rel=1e-9)
    rows = {"a": [5.0], "b": [math.nan], "y": [math.nan]}
    again, _ = clean(tmp_path, rows, step, learned=told["learned"])
    assert again.column("y")[0].as_py() == pytest.approx(3 + 2 * 5 + 1.5, abs=2.5)


def test_a_forest_tells_planted_rows_apart_as_scikit_learns_does(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    points = np.concatenate([random.normal(size=(980, 3)), random.uniform(-9, 9, (20, 3))])
    planted = np.arange(1000) >= 980
    table = pa.table({name: points[:, place] for place, name in enumerate("abc")})
    step = Outliers(tuple("abc"), "forest", "mark", fraction=0.02)
    marked, told = clean(tmp_path, table, step, group=300)
    kept, aside = clean(tmp_path, table, Outliers(tuple("abc"), "forest", "quarantine", fraction=0.02), group=300)
    theirs = -IsolationForest(random_state=0).fit(points).score_samples(points)
    ours = np.array(marked.column("row_outlier").to_pylist())

    assert ours.sum() == 20
    assert planted[ours].mean() >= 0.8
    assert set(np.flatnonzero(ours)) <= set(np.argsort(-theirs)[:60])
    assert roc_auc_score(planted, theirs) > 0.98
    assert (kept.num_rows, aside["counts"]["quarantined"]) == (980, 20)
    again, _ = clean(tmp_path, {"a": [0.0, 9.0], "b": [None, 9.0], "c": [0.1, -9.0]}, step, learned=told["learned"])
    assert again.column("row_outlier").to_pylist() == [False, True]


DISPLACED: list[tuple[Kind, str]] = [
    (Units(("x",), "stone"), "unit"),
    (Units(("x",), "kg", "km"), "assumed_unit"),
    (Units(("x",), "kg", decimal_sign=",", thousands_sign=","), "decimal_sign"),
    (Spellings(("x",), (("a", "b"), ("a", "c"))), "mapping/1/from"),
    (Spellings(("x",), (("a", "b"), ("b", "c"))), "mapping/0/to"),
    (Spellings(("x",), (), True), "mapping"),
    (Smooth(("x",), 1, "t"), "window"),
    (TimeZone(("x",), "Middle/Earth"), "zone"),
    (FillMissing(("x",), "regression"), "predictors"),
    (FillMissing(("x",), "mean", predictors=("y",)), "predictors"),
    (FillMissing(("x",), "nearest", predictors=("y",), neighbors=101), "neighbors"),
    (FillMissing(("x",), "regression", predictors=("x",)), "predictors/0"),
    (Outliers(("x",), "forest", "clip"), "action"),
    (Outliers(("x",), "forest", "mark", fraction=0.5), "fraction"),
    (Outliers(("x",), "iqr", "mark", fraction=0.1), "fraction"),
]


@pytest.mark.parametrize(("kind", "place"), DISPLACED, ids=[f"{type(kind).__name__}-{at}" for kind, at in DISPLACED])
def test_a_step_that_makes_no_sense_is_named(kind: Kind, place: str) -> None:
    step = Step("s", kind)
    with pytest.raises(InvalidValue) as caught:
        check_steps([step], known_zone)
    assert caught.value.violations[0].pointer == f"/steps/0/{step.word}/{place}"
    assert from_json(to_json(step)) == step


def test_steps_of_very_wide_tables_are_checked_soon() -> None:
    columns = [Column(f"a_column_{number}", ColumnType.STRING, False) for number in range(2000)]
    begin = time.process_time()
    found = planned([Step(f"s{number}", FindMissing()) for number in range(50)], columns)

    assert time.process_time() - begin < 1  # the event loop waits for it
    assert found == tuple(replace(column, nullable=True) for column in columns)


def test_a_column_that_others_predict_or_measure_or_that_marks_others_is_made_of_them() -> None:
    steps = [
        Step("fill", FillMissing(("y",), "regression", predictors=("a",))),
        Step("mark", Outliers(("y",), "iqr", "mark")),
        Step("rows", Outliers(("a", "b"), "forest", "mark")),
        Step("kilograms", Units(("b",), "kg", unit_column="u")),
        Step("litres", Units(("u",), "l")),
    ]
    found = origins(steps, [Column(name, ColumnType.DOUBLE) for name in ("a", "b", "y", "u")])
    assert found == {
        "a": ("a",), "b": ("b", "u"), "y": ("y", "a"), "u": ("u",), "y_outlier": ("y", "a"), "row_outlier": ("a", "b")
    }  # fmt: skip
