"""Bad days in a small dose, on one fleet: `python -m tests.far.chaos` gives the large ones."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.far.chaos import SETTINGS, Day, away, disturbed, kills, renew
from tests.far.history import Line
from tests.support.fleet import fleet
from tests.support.servers import Missing, address

pytestmark = pytest.mark.far


@pytest.fixture(scope="module")
def day() -> Iterator[Day]:
    address("postgres")  # without servers, a visible skip
    # Not below pytest's own folder: that is for one user, and PostgreSQL has another.
    with tempfile.TemporaryDirectory(prefix="aimass-days-") as folder:
        Path(folder).chmod(0o755)
        try:
            reuse = {"AIMASS_GATEWAY_REUSE_PORT": "true"}
            with fleet(Path(folder) / "home", settings=SETTINGS | reuse) as there:
                made = Day(there, 10, 40, Path(folder))
                made.prepare()
                yield made
        except Missing as missing:
            pytest.skip(str(missing))


def refused(history: list[Line]) -> list[Line]:
    return [line for line in history if line["kind"] == "prediction" and line["status"] != 200]


@pytest.mark.parametrize("server", ["redis", "postgres"])
def test_predictions_go_on_while_a_server_is_away(day: Day, server: str) -> None:
    load, program = day.load(), day.fleet.servers[server]
    time.sleep(2)
    program.stop()
    time.sleep(5)
    program.start()
    time.sleep(3)
    history = load.stop()

    assert not refused(history)
    assert not day.judge(history)


def test_events_wait_while_the_broker_is_away(day: Day) -> None:
    assert not away("kafka")(day, 1, 5)


def test_nothing_acknowledged_is_lost_when_each_process_is_killed(day: Day) -> None:
    wrong = kills(day, 1, 0.5)

    # Whoever asks a gateway that is killed has no answer, and a busy machine is slow to start: neither loses anything.
    excused = ("ended without an answer", "was ready only after")
    assert not [sentence for sentence in wrong if not any(words in sentence for words in excused)]


def test_each_process_is_renewed_without_a_failed_request(day: Day) -> None:
    load = day.load(waiting=2)
    time.sleep(2)
    for unit in list(day.fleet.units):
        renew(day.fleet, unit)
    time.sleep(1)
    history = load.stop()

    assert not disturbed(history)
    assert {"silent", "stream"} <= {line["kind"] for line in history}
    assert any(line["said"] == "told to come again" for line in history if line["kind"] == "stream")
    assert not day.judge(history)
