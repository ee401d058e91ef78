"""No call holds the event loop for more than 5 ms: measured as processor time of the loop's own thread, per callback.

The client runs in a thread of its own. The first round is not counted: it imports what is imported on first use.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from aimass import Client
from services import SERVICES
from tests.journeys import steps
from tests.support import flights
from tests.support.house import house

LIMIT = 0.005  # seconds


def named(handle: Any) -> str:
    """Whose callback it was: the coroutine and where it waits now, where that is known."""
    task = getattr(handle._callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return repr(handle)[:300]
    frames = [f"{frame.f_code.co_qualname}:{frame.f_lineno}" for frame in task.get_stack()]
    return f"{getattr(task.get_coro(), '__qualname__', '')} at {frames}"


@contextlib.contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[float, str]]]:
    """Collects callbacks that took longer than the limit. The collector of garbage is nobody's call, so it is off."""
    slow: list[tuple[float, str]] = []
    watching = [True]
    run = asyncio.events.Handle._run

    def timed(handle: Any) -> Any:
        begun = time.thread_time()
        try:
            return run(handle)
        finally:
            taken = time.thread_time() - begun
            if taken > LIMIT and watching:
                slow.append((round(taken * 1000, 1), named(handle)))

    monkeypatch.setattr(asyncio.events.Handle, "_run", timed)
    gc.disable()
    try:
        yield slow
    finally:
        watching.clear()  # the callback that ends the watch is the test's own
        gc.enable()
        monkeypatch.undo()


def once(client: Client, number: int) -> None:
    """A round of calls of every kind that a client app makes all day."""
    client.sources.preview_source(source="flights-db", records=20)
    client.rules.test_rule(rule="flights_raw", records=500)
    assert client.rules.list_rules().rules
    client.sources.update_source(
        source="planes-file",
        description=f"round {number}",
        update_mask="description",
        etag=client.sources.get_source(source="planes-file").etag,
    )
    steps.extract(client, "flights_raw", "weather", "planes")
    client.pipelines.run_pipeline(pipeline="derive-flights").result(timeout=60)
    assert len(client.data_sets.read_rows(data_set="flights", version=1, page_size=200).rows) == 200
    steps_query = "SELECT carrier, count(*) AS flights FROM flights GROUP BY carrier"
    client.data_sets.query_data_sets(sql=steps_query, tables=[{"data_set": "flights"}])
    client.logs.search_logs(query="kind:event", page_size=50)
    client.logs.count_logs(query="kind:log")
    client.upload(b"x" * 200_000)
    row: dict[str, list[Any]] = {"carrier": ["AA"], "origin": ["JFK"], "hour": [9], "distance": [300.0]}
    for size in (1, 10, 100):
        given = {name: values * size for name, values in (row | {"temp": [None], "seats": [120.0]}).items()}
        assert client.predict("late", columns=given).version


def prepare(client: Client, raw: Path, home: Path) -> None:
    steps.register_sources(client, raw, home)
    steps.write_rules(client)
    for rule in steps.RULES:
        client.rules.activate_rule(rule=rule, version=1)
    steps.extract(client, "flights_raw", "weather", "planes")
    steps.derive(client)
    client.pipelines.run_pipeline(pipeline="derive-flights").result(timeout=60)
    client.feature_sets.create_feature_set(
        feature_set="late", data_set="flights", label="late", key="id", steps=steps.STEPS
    )
    client.feature_sets.fit_feature_set(feature_set="late").result(timeout=60)
    client.jobs.submit_job(spec=steps.spec({"logistic_regression": {}}, last=2)).result(timeout=90)
    deadline = time.monotonic() + 30
    while not client.models.list_models().models and time.monotonic() < deadline:
        time.sleep(0.1)
    client.releases.promote_version(model="late", version=1).result(timeout=60)


async def in_thread(work: Callable[..., None], *arguments: Any) -> None:
    await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


async def round_of(client: Client, raw: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """What was slow in one round. A busy machine makes this or that slow now and then; a call that blocks always is."""
    flights.write(raw, range(4 + number, 5 + number))
    with watched(monkeypatch) as slow:
        await in_thread(once, client, number)
    return slow


async def test_no_call_holds_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, home = tmp_path / "raw", tmp_path / "home"
    flights.write(raw, range(1, 5))
    ports = {"AIMASS_GATEWAY_HTTP_PORT": "0", "AIMASS_GATEWAY_GRPC_PORT": "0"}
    async with house(home, *SERVICES, **ports, AIMASS_DATA_FILE_ROOTS=f"{raw}:{home}/logs"):
        doors = orjson.loads((home / "doors.json").read_bytes())
        with Client(doors["http"], (home / "admin-key").read_text().strip(), timeout=60) as client:
            await in_thread(prepare, client, raw, home)
            await in_thread(once, client, 0)
            rounds = [await round_of(client, raw, number, monkeypatch) for number in (1, 2, 3)]

    always = set.intersection(*({name for _, name in slow} for slow in rounds))
    assert not always, rounds


async def test_the_watch_sees_a_call_that_holds_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def hold() -> None:
        begun = time.thread_time()
        while time.thread_time() - begun < 2 * LIMIT:
            pass

    with watched(monkeypatch) as slow:
        asyncio.get_running_loop().call_soon(hold)
        await asyncio.sleep(0.01)

    assert any("hold" in name for _, name in slow)
