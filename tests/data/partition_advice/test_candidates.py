"""Layouts that are tried: the partition of each row is the one that dividing gives it, whatever the columns hold."""

import random
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from services.data.datasets import dividing
from services.data.datasets.layouts import check_layout, typed
from services.data.partition_advice import sampling
from services.data.partition_advice.candidates import candidates
from services.data.partition_advice.sampling import text_of
from services.data.schema import ColumnType
from tests.data.partition_advice import lab

_NAN = float("nan")


def odd(rows: int) -> pa.Table:
    """Every type, with what is rare in each."""
    pick = random.Random(3)

    def some(*values: object) -> list[object]:
        return [pick.choice(values) for _ in range(rows)]

    times = (datetime(1969, 12, 31, 23, 59, 59, 1), datetime(2026, 3, 1), datetime(2026, 3, 1, 8))
    days = (date(1, 1, 1), date(1970, 1, 1), date(9999, 12, 31), date(2024, 2, 29))
    return pa.table({
        "whole": pa.array(some(None, 0, -1, 2**63 - 1, -(2**63), 7, 8, 9), pa.int64()),
        "real": pa.array(some(None, 0.0, -0.0, _NAN, 1e308, -1e-308, 2.5, float("inf")), pa.float64()),
        "text": pa.array(some(None, "", "a", "ab", "abc", "Zürich", "\U0001f600", "x" * 300, "x" * 301), pa.string()),
        "truth": pa.array(some(None, True, False), pa.bool_()),
        "day": pa.array(some(None, *days), pa.date32()),
        "time": pa.array(some(None, *times), pa.timestamp("us")),
    })  # fmt: skip


def test_each_row_is_where_dividing_puts_it(tmp_path: Path) -> None:
    table = odd(400)
    base = lab.laid(tmp_path / "base", table)
    sample = lab.sample(base)
    groups = [*[(name,) for name in table.column_names], ("truth", "text"), ("whole", "day", "time"), ("text", "real")]
    strategies = set()
    for candidate in candidates(sample, groups, 256):
        check_layout(candidate.layout)
        found = dividing.numbers(candidate.placing, lab.fitted(base, table))
        assert found.tolist() == candidate.parts.tolist(), candidate.layout
        strategies.add((candidate.layout.strategy.value, candidate.layout.fields))

    assert len(strategies) == 3 * len(groups) - 2 * 2, "doubles are divided by ranges only"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-42", ColumnType.INT64),
        ("2.5", ColumnType.DOUBLE),
        ("Zürich", ColumnType.STRING),
        ("true", ColumnType.BOOL),
        ("0001-01-01", ColumnType.DATE),
        ("1969-12-31T23:59:59.000001Z", ColumnType.TIMESTAMP),
    ],
)
def test_a_value_is_written_as_layouts_have_it(text: str, kind: ColumnType) -> None:
    assert text_of(typed(text, kind), kind) == text


@pytest.mark.parametrize(("read", "least", "most"), [(2_000_000, 30_000, 60_000), (20_000, 16_000, 25_000)])
def test_a_sample_stands_for_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: int, least: int, most: int
) -> None:
    monkeypatch.setattr(sampling, "_READ", read)  # rows, so that a test needs no millions
    table = pa.table({"id": range(100_000), "text": [f"t{number % 7}" for number in range(100_000)]})
    base = lab.laid(tmp_path / "base", table)
    found = sampling.sampled(base.folder, base.files, base.columns, ["id"])

    assert (list(found.columns), found.rows, len(found.group_rows)) == (["id"], 100_000, 13)
    assert least <= found.size <= most
    assert found.size * found.scale == pytest.approx(100_000)
    assert set(found.widths) == {"id", "text"}
    assert float(found.columns["id"].values[-1] or 0) > 75_000, "rows from all over the table"
