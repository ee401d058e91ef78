"""The parts of the demo that need no services."""

import json
import os
import signal
import sqlite3
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from examples.flights import pictures
from examples.flights.company import Company
from examples.flights.elsewhere import visiting
from examples.flights.installation import Installation, StartFailed, Stopping
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


def described(folder: Path, **more: object) -> Path:
    place = {"url": "http://127.0.0.1:1", "grpc": "127.0.0.1:2", "ca": "", "folder": str(folder / "import/default")}
    place |= {"key_file": str(folder / "key"), "seen_as": "/import/default", "callback": "host.docker.internal"}
    (folder / "key").write_text("aim_key\n")
    (folder / "there.json").write_text(json.dumps(place | more))
    return folder / "there.json"


def test_an_installation_elsewhere_is_described_by_a_file(tmp_path: Path) -> None:
    with visiting(described(tmp_path)) as found:
        assert found.key == "aim_key"
        assert found.raw == tmp_path / "import/default/company"
        assert found.seen == "/import/default/company"
        assert found.seen_log == "/import/default/access.log"
        assert found.sink.url.startswith("http://host.docker.internal:")
        found.stop()


def test_a_file_that_describes_no_installation_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("{}")
    with pytest.raises(StartFailed, match="describes no installation: 'callback'"), visiting(tmp_path / "there.json"):
        pass


def test_an_installation_elsewhere_is_awaited_and_not_started(tmp_path: Path, free_port: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    url = f"http://127.0.0.1:{free_port}"
    with ThreadingHTTPServer(("127.0.0.1", free_port), Handler) as gateway:
        Thread(target=gateway.serve_forever, args=(0.05,), daemon=True).start()
        with visiting(described(tmp_path, url=url)) as found:
            assert found.start() < 30
        gateway.shutdown()
    assert found.doors == {"http": url, "grpc": "127.0.0.1:2"}
    assert found.process is None


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
