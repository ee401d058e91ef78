"""The parts of the demo that need no services."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from examples.flights import pictures
from examples.flights.company import Company
from examples.flights.installation import Installation, Stopping
from examples.flights.story import soon
from examples.flights.webhook import Sink


def test_a_company_grows_by_months_and_never_changes_what_was(tmp_path: Path) -> None:
    company = Company(tmp_path, rows=2000)
    company.open()

    def rows() -> list[tuple[int, int]]:
        with closing(sqlite3.connect(company.database)) as database:
            return list(database.execute("SELECT id, month FROM flights ORDER BY id"))

    before, weather = rows(), (tmp_path / "weather" / "JFK.csv").read_text()
    company.months(range(10, 13))
    assert rows()[: len(before)] == before
    assert {month for _, month in before} == set(range(1, 10))
    assert {month for _, month in rows()} == set(range(1, 13))
    assert (tmp_path / "weather" / "JFK.csv").read_text().startswith(weather)
    assert 1800 < len(rows()) < 2300


def test_some_delays_are_broken_and_some_are_missing(tmp_path: Path) -> None:
    company = Company(tmp_path, rows=2000)
    company.open()
    with closing(sqlite3.connect(company.database)) as database:
        kinds = dict(database.execute("SELECT typeof(arr_delay), count(*) FROM flights GROUP BY 1"))
    assert set(kinds) == {"integer", "null", "text"}
    assert kinds["text"] < kinds["null"] < kinds["integer"]


def test_a_node_stands_behind_everything_it_came_from() -> None:
    edges = [("a", "b"), ("b", "d"), ("a", "d"), ("c", "d")]
    assert pictures.depths(edges) == {"a": 0, "b": 1, "c": 0, "d": 2}
    assert max(pictures.depths([("a", "b"), ("b", "a")]).values()) < 10


def test_pictures_hold_no_foreign_markup() -> None:
    assert "<script>" not in pictures.graph("x", [("<script>", "b")])
    drawn = pictures.curves("ROC", "false", "true", {"<b>": [(0.0, 0.0), (1.0, 1.0)]})
    assert "&lt;b&gt;" in drawn
    assert drawn.count("<path") == 2


def test_waiting_ends_with_the_last_answer() -> None:
    assert soon(lambda: 0, seconds=0.1) == 0
    assert soon(lambda: 3) == 3


def test_an_installation_that_never_started_can_be_stopped(tmp_path: Path) -> None:
    with Sink() as sink:
        Installation(tmp_path, sink).stop()
        assert sink.url.startswith("http://127.0.0.1:")


def test_a_signal_waits_for_the_end_of_what_must_be_whole() -> None:
    stopping, done, before = Stopping(), list[str](), signal.getsignal(signal.SIGHUP)

    def work() -> None:
        with stopping.held():
            os.kill(os.getpid(), signal.SIGHUP)
            done.append("to the end")

    signal.signal(signal.SIGHUP, stopping._take)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done == ["to the end"]
