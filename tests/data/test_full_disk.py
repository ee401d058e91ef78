"""A disk that is full while work writes: it says so, nothing is half there, and the next run does all of it once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import feature_views_pb2 as views_pb2
from aimass.v1 import operations_pb2
from services.data.metering.service import Metering
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.data.killed_rewrite import LAYOUT
from tests.data.killed_views import ROWS, SENSORS, table
from tests.data.tables import add
from tests.data.test_partitions import begin, data_set, divide
from tests.data.views import create, ended, materialise, values, views
from tests.support.house import House, house, until


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """While it lasts, children find no room for a file of this name."""
    run = Metering.run

    async def full(self: Metering, scope: Any, operation: str, module: str, request: Any, *rest: Any) -> Any:
        folder = Path(request["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to("/dev/full")
        return await run(self, scope, operation, module, request, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Metering, "run", full)
        yield


def said(done: operations_pb2.Operation) -> tuple[int, str, str]:
    return done.state, done.error.code, done.error.detail


FULL = operations_pb2.OPERATION_STATE_FAILED, "storage_full", "the disk is full"


def left(home: Path) -> list[str]:
    """Files of work that has ended without a version."""
    return [path.name for path in home.rglob("*") if path.is_symlink() or path.name.endswith(".arrow")]


async def test_an_extraction_keeps_its_cursor(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places.flights(home, rows=9_000)
    async with house(home, "data") as running:
        acme = Tenant(running)
        await acme.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
        with full_disk(monkeypatch, "part-00000.parquet"):
            assert said(await acme.ended((await acme.begin("flights")).operation)) == FULL
        await until(lambda: left(home) == [])
        assert (await acme.extract("flights")).rows_accepted == 9_000
        places.flights(home, rows=1_000, first=9_001)
        with full_disk(monkeypatch, "part-00000.parquet"):
            assert said(await acme.ended((await acme.begin("flights")).operation)) == FULL
        assert (await acme.version("flights")).rows == 9_000
        assert (await acme.extract("flights")).rows_accepted == 1_000


async def test_a_materialisation_goes_on_behind_what_it_has_stored(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(home, "data") as running:
        await add(running, "readings", table())
        await create(running)
        with full_disk(monkeypatch, "00000001.arrow"):
            request = views_pb2.MaterialiseFeatureViewRequest(feature_view="sensors")
            begun = await views(running).MaterialiseFeatureView(request)
            assert said(await ended(running, begun.operation)) == FULL
        await until(lambda: left(home) == [])
        done = await materialise(running)
        assert (done.rows, done.rows_without_key, done.future_rows) == (ROWS, 0, 0)
        newest = {number % SENSORS: float(number) for number in range(ROWS)}
        found = await values(running, *(f"s{sensor}" for sensor in range(100)))
        assert found == [[newest[sensor], "on"] for sensor in range(100)]


async def test_a_rewrite_leaves_the_data_set_as_it_was(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(home, "data") as running:
        rows = {"id": list(range(5_000)), "carrier": [f"c{number % 50}" for number in range(5_000)]}
        await add(running, "flights", rows)
        before = await data_set(running)
        with full_disk(monkeypatch, "d0-003-00000.parquet"):
            assert said(await _ended(running, await begin(running, LAYOUT))) == FULL
        after = await data_set(running)
        assert (after.etag, after.latest_version) == (before.etag, before.latest_version)
        await until(lambda: left(home) == [])
        assert (await divide(running, LAYOUT)).latest_version == 2
        assert (await Tenant(running).version("flights")).rows == 5_000


async def _ended(running: House, operation: str) -> operations_pb2.Operation:
    found: operations_pb2.Operation = await Tenant(running).ended(operation)
    return found
