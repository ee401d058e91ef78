"""What a process is busy with, as its figures say it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aimass.v1 import registry_events_pb2
from services.kit import telemetry
from services.kit.auth import Scope
from services.kit.breaker import Outcome
from services.kit.bus import Event
from services.kit.errors import Unavailable
from services.kit.telemetry.metrics import REGISTRY
from services.kit.vitals import Vitals
from tests.support.house import House, house, until


def figure(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"aimass_{name}", labels)


def vitals(running: House) -> Vitals:
    return running.process._vitals


async def test_a_process_says_which_of_its_services_can_answer(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        await until(lambda: figure("ready", service="registry") == 1.0)
        running.runtime.draining = True
        assert figure("ready", service="registry") == 0.0

    assert figure("ready", service="registry") is None


async def test_what_can_wait_waits_for_a_service_to_be_ready_but_not_for_ever(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        async with asyncio.timeout(1):
            await vitals(running).until_ready("registry")
        running.process.runtime.apps["registry"].__dict__["ready"] = lambda: False
        waiting = asyncio.ensure_future(vitals(running).until_ready("registry"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        async with asyncio.timeout(20):
            await waiting


async def test_events_that_wait_are_counted_with_the_age_of_the_oldest(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        app = running.process._apps["registry"]
        assert app.schema
        assert app.database
        outbox = app.schema.outbox
        message = registry_events_pb2.ReleaseChanged()
        event = Event.of(message, Scope("acme"), "release", "late", "test", running.runtime.now())
        event.headers["ce_time"] = "2020-01-01T00:00:00+00:00"
        await running.runtime.bus.close()  # so that nothing leaves
        await app.database.run(lambda connection: outbox.add(connection, [event, event]))
        with pytest.raises(Unavailable):  # the bus does not say how far its groups are; the rest is known
            await vitals(running).look()

        assert figure("outbox_events", service="registry") == 2
        age = figure("outbox_age_seconds", service="registry")
        assert age
        assert age > 365 * 24 * 3600


async def test_an_empty_outbox_has_no_age(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        await vitals(running).look()

        assert figure("outbox_events", service="registry") == 0
        assert figure("outbox_age_seconds", service="registry") == 0


async def test_a_group_that_reads_and_does_not_commit_lags(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        reader = await running.runtime.bus.reader(["x"], "slow")
        await running.runtime.bus.publish([Event(topic, "k", b"", {}) for topic in "xyx"])
        events = await reader.poll(10)
        await vitals(running).look()
        assert figure("bus_lag_events", group="slow") == 2

        await reader.commit(events[:1])
        await vitals(running).look()
        assert figure("bus_lag_events", group="slow") == 1


async def test_a_group_of_one_process_has_no_lag(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        await running.runtime.bus.reader(["x"], "passing", from_end=True)
        await vitals(running).look()

        assert figure("bus_lag_events", group="passing") is None


async def test_transactions_that_wait_for_a_thread_are_seen(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        database = running.process._apps["registry"].database
        assert database
        work = [asyncio.ensure_future(database.read(lambda _: time.sleep(0.2))) for _ in range(3)]
        await asyncio.sleep(0.05)
        busy = figure("database_calls", service="registry")
        await asyncio.gather(*work)

        assert busy
        assert busy >= 3
        assert figure("database_threads", service="registry") == database.threads


async def test_instances_are_counted_by_what_calls_find(tmp_path: Path, free_port: int) -> None:
    url = f"static:registry=127.0.0.1:{free_port}|127.0.0.1:1"
    async with (
        house(tmp_path, "registry", AIMASS_REGISTRY_LISTEN=f"127.0.0.1:{free_port}"),
        house(tmp_path / "other", "data", AIMASS_DISCOVERY_URL=url, AIMASS_KEYS_DIR=str(tmp_path / "keys")) as caller,
    ):
        pool = caller.runtime.directory.pool("registry")
        assert pool
        member = await pool.wait(5)
        assert figure("instances", service="registry", state="closed") == 1
        assert figure("instances", service="registry", state="away") == 1

        tickets = [member.begin() for _ in range(5)]
        assert figure("calls_underway", service="registry") == 5
        for ticket in tickets:
            member.end(ticket, Outcome.LOST)
        # Right after a lost call its connection is in doubt, and it counts as away.
        await until(lambda: figure("instances", service="registry", state="open") == 1)
        assert figure("calls_underway", service="registry") == 0


async def test_looking_at_a_breaker_does_not_move_it(tmp_path: Path) -> None:
    async with house(tmp_path, "data", AIMASS_DISCOVERY_URL="static:registry=127.0.0.1:1") as caller:
        pool = caller.runtime.directory.pool("registry")
        assert pool
        (member,) = pool.members
        for _ in range(5):
            member.end(member.begin(), Outcome.LOST)
        member.breaker.retry_soon()
        telemetry.exposition()

        assert member.breaker.shown == "open"
        assert member.breaker.state == "half_open"


def test_figures_say_what_runs() -> None:
    (line,) = [line for line in telemetry.exposition().decode().splitlines() if line.startswith("aimass_build_info")]

    assert f'version="{telemetry.version()}"' in line
    assert 'python="3.' in line


def test_a_gauge_is_asked_for_and_taken_away(request: pytest.FixtureRequest) -> None:
    depth = [3.0]
    hide: Callable[[], None] = telemetry.gauge("aimass_test_depth", "x", ["service"], lambda: [(("data",), depth[0])])
    assert figure("test_depth", service="data") == 3
    depth[0] = 4
    assert figure("test_depth", service="data") == 4
    hide()

    assert figure("test_depth", service="data") is None


async def test_a_process_says_how_many_tasks_it_has(tmp_path: Path) -> None:
    async with house(tmp_path, "registry"):
        before = await until(lambda: figure("tasks"))
        waiting = [asyncio.create_task(asyncio.sleep(60)) for _ in range(100)]
        more = figure("tasks")
        for task in waiting:
            task.cancel()

    assert more
    assert 90 <= more - before <= 110
