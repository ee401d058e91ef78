"""Recipes that are proposed from rows alone: what was planted is found, and what is clean is left alone."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimass.v1 import recipes_pb2 as pb
from aimass.v1.recipes_pb2_grpc import RecipesStub
from services.data.cleaning import work
from services.data.cleaning.kinds import Convert, Duplicates, FillMissing, FindMissing, Kind, Outliers
from services.data.cleaning.kinds_values import Encoding, Spellings, Units
from services.data.cleaning.steps import from_json
from services.data.schema import ColumnType
from services.kit.errors import Code
from tests.data.cleaning.cleaned import Quiet, asked, clean, table_of
from tests.data.tables import add
from tests.support.house import House, house
from tests.support.refused import code_of

RANDOM = np.random.default_rng(4)
DAYS = [f"{n % 28 + 1:02}.{n % 12 + 1:02}.2025" for n in range(200)]
PLANTED: dict[str, list[Any]] = {
    "id": [f"{n:05}" for n in range(199)] + ["00198"],
    "town": ["Oslo", "Trondheim"] * 98 + ["OSLO", "Tronheim", "Trondheim", "Trondheim"],
    "price": ["much", *(f"{n + 1}.{n % 10}00,{n % 100:02}" for n in range(191)), *["n/a"] * 8],
    "weight": [f"{n % 7 + 1} kg" if n % 3 else f"{n % 7 + 1}00 g" for n in range(200)],
    "day": [*DAYS[:199], DAYS[198]],
    "paid": ["yes", "no"] * 100,
    "note": ["Zoë".encode().decode("latin-1"), *(f"words {n} of a text that is long enough" for n in range(198)), ""],
    "n": [*RANDOM.normal(10, 1, 180), *[None] * 18, 500.0, None],
}
PLANTED["town"][-1] = PLANTED["town"][-2]
for values in PLANTED.values():
    values[-1] = values[-2]


def proposed(folder: Path, rows: dict[str, Any], most: int = 1000) -> list[tuple[Kind, str]]:
    """Steps with their reasons, as the child proposes them."""
    request = asked(folder, table_of(rows), [], 50) | {"propose": most}
    told = work.main(request, Quiet())  # type: ignore[arg-type]
    return [(from_json(one["step"]).kind, one["reason"]) for one in told["steps"]]


def test_what_was_planted_is_proposed_with_the_reason_and_cleans_the_rows(tmp_path: Path) -> None:
    found = proposed(tmp_path, PLANTED)

    assert [kind for kind, _ in found] == [
        Encoding(("note",)),
        FindMissing(("price",)),
        Spellings(("town",), (("OSLO", "Oslo"), ("Tronheim", "Trondheim")), only_mapping=True),
        Convert(("price",), ColumnType.DOUBLE, ",", "."),
        Units(("weight",), "kg"),
        Convert(("day",), ColumnType.DATE, formats=("%d.%m.%Y",)),
        Convert(("paid",), ColumnType.BOOL),
        Duplicates(),
        Outliers(("n",), "iqr", "mark", 3.0),
        FillMissing(("price", "n"), "median"),
    ]  # fmt: skip
    reasons = [reason for _, reason in found]
    assert reasons[3].startswith("191 of 192 texts of price are double values with the decimal sign ,")
    assert reasons[3].endswith("; rows that are quarantined: 1")
    assert reasons[7] == "rows that are equal to another in all columns: 1"
    rows, told = clean(tmp_path, PLANTED, *(kind for kind, _ in found), group=64)
    counts = told["counts"]
    assert counts["rows_in"] == 200 == counts["rows_out"] + counts["quarantined"] + counts["duplicates"]
    assert rows.column("n").null_count == 0
    assert set(rows.column("town").to_pylist()) == {"Oslo", "Trondheim"}


CLEAN: dict[str, list[Any]] = {
    "code": [f"0{n}" for n in range(10, 40)],
    "either": [f"{n % 12 + 1:02}/{n % 11 + 1:02}/2025" for n in range(30)],
    "minutes_or_metres": [f"{n} m" for n in range(30)],
    "n": [float(n) for n in range(30)],
    "mixed": ["1", "a", "x y"] * 10,
}


def test_what_is_clean_or_not_certain_is_left_alone(tmp_path: Path) -> None:
    assert proposed(tmp_path, CLEAN) == []
    assert proposed(tmp_path, {"x": ["1", "2"]}) == []
    assert [kind for kind, _ in proposed(tmp_path, {"x": [None, "n/a", None, "-"]})] == [
        FindMissing(("x",)),
        Duplicates(),
    ]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "22", "-3", "4", "5"], Convert(("x",), ColumnType.INT64)),
        (["0,5", "1,25", "2", "3,5", "9,1"], Convert(("x",), ColumnType.DOUBLE, ",")),
        (["1,234.5", "0.5", "12", "3,000", "7"], Convert(("x",), ColumnType.DOUBLE, "", ",")),
        (["2024-01-01", "2024-02-28", "2025-01-01", "2024-12-31", "2024-05-05"], Convert(("x",), ColumnType.DATE)),
        ([f"12/{n}/2024 10:3{n % 10}" for n in range(13, 19)],
         Convert(("x",), ColumnType.TIMESTAMP, formats=("%m/%d/%Y %H:%M",))),
        ([f"{n},5 lb" for n in range(6)], Units(("x",), "lb", decimal_sign=",")),
    ],
    ids=["int64", "comma", "thousands", "date", "american", "pounds"],
)  # fmt: skip
def test_texts_are_told_for_what_they_are(tmp_path: Path, texts: list[str], kind: Kind) -> None:
    assert proposed(tmp_path, {"x": texts})[0][0] == kind


def test_a_proposal_is_no_longer_than_a_recipe_and_its_steps_no_wider(tmp_path: Path) -> None:
    wide = {f"c{n}": [*map(str, range(n, n + 9)), "n/a"] for n in range(205)}
    found = proposed(tmp_path, wide)
    names = tuple(wide)
    assert [kind for kind, _ in found] == [
        FindMissing(names[:200]),
        FindMissing(names[200:]),
        Convert(names[:200], ColumnType.INT64),
        Convert(names[200:], ColumnType.INT64),
        FillMissing(names[:200], "median"),
        FillMissing(names[200:], "median"),
    ]
    assert found[2][1].startswith("9 of 9 texts of c0 are int64 values; 9 of 9 texts of c1 are")
    assert found[2][1].endswith("; and 185 more columns")
    each = {f"town{n}": [f"Oslo {n}"] * 9 + [f"OSLO {n}"] for n in range(52)}
    assert [type(kind) for kind, _ in proposed(tmp_path, each)] == [Spellings] * 50


def test_a_mark_that_is_there_is_not_proposed_again(tmp_path: Path) -> None:
    rows = {"n": [*(float(n % 7) for n in range(300)), 900.0], "Id": [*range(301)]}
    assert [kind for kind, _ in proposed(tmp_path, rows)] == [Outliers(("n",), "iqr", "mark", 3.0)]
    assert proposed(tmp_path, {**rows, "N_Outlier": [False] * 300 + [True]}) == []


def test_texts_that_are_nothing_else_are_soon_left_alone(tmp_path: Path) -> None:
    rows = {f"c{n}": [f"words {n} of a text {place}" for place in range(10_000)] for n in range(3)}
    begin = time.process_time()
    assert proposed(tmp_path, rows, 10_000) == []
    assert time.process_time() - begin < 3


def test_only_so_many_rows_are_looked_at(tmp_path: Path) -> None:
    rows = {"x": [float(n) for n in range(100)] + [0.0, 0.0], "y": [float(n) for n in range(100)] + [0.0, 0.0]}
    assert proposed(tmp_path, rows, 100) == []
    assert [kind for kind, _ in proposed(tmp_path, rows)] == [Duplicates()]


@pytest.fixture
async def home(home: Path) -> AsyncIterator[House]:
    async with house(home, "data") as running:
        await add(running, "raw", PLANTED)
        yield running


async def test_a_proposal_can_be_previewed_and_created_as_it_is(home: House) -> None:
    stub = home.stub(RecipesStub, "data")
    found = await stub.ProposeRecipe(pb.ProposeRecipeRequest(data_set="raw"))
    steps = [one.step for one in found.steps]
    shown = await stub.PreviewRecipe(pb.PreviewRecipeRequest(data_set="raw", steps=steps))
    made = await stub.CreateRecipe(
        pb.CreateRecipeRequest(recipe="found", data_set="raw", output_data_set="clean", steps=steps)
    )

    assert (found.rows, len(steps)) == (200, 10)
    assert all(one.reason for one in found.steps)
    assert (shown.duplicates, shown.quarantined) == (1, 1)
    assert list(made.steps) == steps
    blind = home.stub(RecipesStub, "data", tenant="other")
    assert await code_of(blind.ProposeRecipe(pb.ProposeRecipeRequest(data_set="raw"))) is Code.NOT_FOUND
    wrong = pb.ProposeRecipeRequest(data_set="raw", rows=100_001)
    assert await code_of(stub.ProposeRecipe(wrong)) is Code.INVALID_VALUE
