"""Advice against rivals, by what queries would read: files and rows, which do not depend on the machine."""

import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from services.data.datasets import dividing, parquet
from services.data.datasets.layouts import Layout, Placing, Strategy
from services.data.partition_advice import work
from services.data.partition_advice.choosing import advise
from services.data.partition_advice.domain import Advising, Machine
from services.data.partition_advice.draws import drawn
from services.data.partition_advice.history import Kind, Selector
from services.data.partition_advice.simulating import Simulator, as_it_is
from services.data.sql import check_query
from services.kit.child import Child
from services.kit.errors import Failure
from tests.data.partition_advice import lab
from tests.data.partition_advice.rivals import rivals
from tests.data.partition_advice.workloads import workload

# Rows that are read in the time in which a file is opened, and in which a query begins.
_FILE, _QUERY = 15_000, 75_000


def price(base: lab.Laid, table: pa.Table, layout: Layout | None, queries: tuple[str, ...]) -> float:
    """Rows of the files that queries read, and the files as rows."""
    if layout is None:
        return float(len(queries) * (_QUERY + _FILE + table.num_rows))
    placing = Placing(layout, {column.name: column.type for column in base.columns})
    rows, total = np.bincount(dividing.numbers(placing, table), minlength=placing.count), 0.0
    for sql in queries:
        parts = [part for part in lab.parts(placing, check_query(sql, ["t"])) if rows[part]]
        total += _QUERY + rows[parts].sum() + _FILE * max(len(parts), 1)
    return float(total)


@pytest.mark.parametrize("seed", [1, 3, 5, 12])
def test_what_is_advised_reads_about_as_little_as_the_best_rival(tmp_path: Path, seed: int) -> None:
    made = workload(seed, 120_000, ordered=False)
    base = lab.laid(tmp_path / "base", made.table)
    advice = lab.advice(base, made.known)
    best = min(price(base, made.table, layout, made.asked) for layout in (None, *rivals(made, base)))

    assert price(base, made.table, advice.choice.layout, made.asked) <= 1.2 * best, advice.reasons


def test_rows_that_lie_in_order_already_are_left_so(tmp_path: Path) -> None:
    rows = 120_000
    days = pa.array(np.sort(np.random.default_rng(1).integers(0, 500, rows)).astype("int32"), pa.int32())
    base = lab.laid(tmp_path / "base", pa.table({"day": days.cast(pa.date32()), "n": range(rows)}))
    advice = lab.advice(
        base, [f"SELECT sum(n) AS n FROM t WHERE day = DATE '1970-03-{day:02d}'" for day in range(1, 30)]
    )

    assert advice.choice.layout is None, advice.reasons


def test_memory_bounds_the_partitions(tmp_path: Path) -> None:
    made = workload(0, 120_000, ordered=False)
    base = lab.laid(tmp_path / "base", made.table)
    wide, narrow = (lab.advice(base, made.known, Machine(2, 2**31, memory)) for memory in (2**32, 20 * 2**20))

    assert wide.choice.count > narrow.choice.count
    assert any("dividing has memory for at most" in reason for reason in narrow.reasons)
    tight = lab.advice(base, made.known, Machine(2, 300_000, 2**32))
    assert tight.choice.largest_bytes <= 300_000


def test_a_forecast_is_what_a_divided_table_gives(tmp_path: Path) -> None:
    made = workload(1, 60_000, ordered=False)
    base = lab.laid(tmp_path / "base", made.table)
    choice = lab.advice(base, made.known).choice
    assert choice.layout
    laid = lab.divided(base, tmp_path / "divided", choice.layout)

    assert (choice.forecast.files, choice.largest_rows) == (len(laid.files), max(file.rows for file in laid.files))
    placing, sample = Placing(choice.layout, {column.name: column.type for column in base.columns}), lab.sample(laid)
    draws = drawn(sample, [((Selector("tenant", Kind.EQUAL),), 1.0, 0.25)])
    there = Simulator(sample, draws, ()).choice(as_it_is(sample, choice.layout, placing)).forecast
    assert there.files_read == pytest.approx(choice.forecast.files_read, rel=0.05)
    assert there.seconds == pytest.approx(choice.forecast.seconds, rel=0.15)


def test_appended_versions_speak_against_many_partitions(tmp_path: Path) -> None:
    made = workload(1, 120_000, ordered=False)
    base = lab.laid(tmp_path / "base", made.table)
    once, often = (lab.advice(base, made.known, appended=appended) for appended in ((), (5_000,) * 20))

    assert often.choice.count < once.choice.count
    assert any(reason.startswith("20 of the last versions were appended") for reason in often.reasons)


def test_a_layout_that_is_there_is_compared(tmp_path: Path) -> None:
    made = workload(1, 60_000, ordered=False)
    base = lab.laid(tmp_path / "base", made.table)
    laid = lab.divided(base, tmp_path / "divided", Layout(Strategy.HASH, ("tenant",), count=16))
    advice = lab.advice(laid, made.known)

    assert advice.current.files_read < 2
    assert advice.undivided.files_read == 16


def test_what_was_tried_counts_when_the_time_is_used_up(tmp_path: Path) -> None:
    made = workload(1, 60_000, ordered=False)
    base = lab.laid(tmp_path / "base", made.table)
    question, turns = lab.question(base, made.known), iter([True, True, False])
    found = advise(question, lambda _: next(turns))

    assert found.tried == 2
    assert found.reasons[-1] == "The time was used up after 2 layouts: others were not tried."
    with pytest.raises(Failure, match="before a layout was tried"):
        advise(question, lambda _: False)


class Clock:
    """A second later with each look; no processor time is used."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now

    def process_time(self) -> float:
        return 0.0


def test_the_child_ends_with_the_best_before_its_parent_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "time", Clock())
    rng = np.random.default_rng(7)
    base = lab.laid(tmp_path / "base", pa.table({f"c{n}": rng.integers(0, 900, 10_000) for n in range(4)}))
    request = {
        **TypeAdapter(Advising).dump_python(Advising("o", "t", 1, (), (), (), lab.NOW), mode="json"),
        "folder": str(base.folder),
        "files": parquet.to_json(base.files),
        "columns": [(column.name, column.type.value, column.nullable) for column in base.columns],
        "layout": None,
        "memory": (2048, 4096),
        "cpu_seconds": 120.0,
        "seconds": 50.0,
    }
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = work.main(request, Child(ours))

    assert found["reasons"][-1] == f"The time was used up after {found['tried']} layouts: others were not tried."
    assert 0 < found["tried"] < 50
