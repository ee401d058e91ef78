"""Children that are killed and databases that do not answer: the run goes on, or its end is said."""

import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from aimass.v1 import extractions_pb2 as pb
from aimass.v1 import operations_pb2
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from services.kit import leased_work
from services.kit.auth import Scope
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.support.house import House, house, until


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.flights(home)
    async with house(home, "data") as running:
        yield running


@pytest.fixture
async def tenant(running: House) -> Tenant:
    tenant = Tenant(running)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    return tenant


async def kill_child(killed: set[int]) -> None:
    """Kills the next child of an extraction."""
    child: psutil.Process = await until(lambda: next((c for c in _children() if c.pid not in killed), None))
    killed.add(child.pid)
    child.kill()


def _children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        try:
            if "services.data.extractions.work" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


async def test_a_run_whose_child_is_killed_goes_on_with_another(tenant: Tenant) -> None:
    begun = await tenant.begin("flights")
    await kill_child(set())
    done = await tenant.ended(begun.operation)

    assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
    assert [row["id"] for row in await tenant.rows("flights")] == [1, 2, 3, 4, 5]


async def test_a_run_whose_children_are_all_killed_fails_and_the_next_one_does_not(tenant: Tenant, home: Path) -> None:
    begun, killed = await tenant.begin("flights"), set[int]()
    for _ in range(3):
        await kill_child(killed)
    done = await tenant.ended(begun.operation)

    assert (done.state, done.error.code) == (operations_pb2.OPERATION_STATE_FAILED, "internal")
    assert done.error.detail == "internal error"
    assert not list((home / "tables").rglob("*.parquet"))
    assert (await tenant.extract("flights")).rows_accepted == 5


async def test_a_run_is_cancelled_between_two_children(tenant: Tenant) -> None:
    begun = await tenant.begin("flights")
    await kill_child(set())
    request = operations_pb2.CancelOperationRequest(operation=begun.operation)
    await tenant.stub(OperationsStub).CancelOperation(request)

    assert (await tenant.ended(begun.operation)).state == operations_pb2.OPERATION_STATE_CANCELLED
    assert not _children()


async def test_an_end_is_kept_when_the_database_answers_again(
    tenant: Tenant, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leased_work, "_PATIENCE", (0.02,))
    database = tenant.house.runtime.apps["data"].database
    assert database
    await database.run(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout = 1") and None)
    begun = await tenant.begin("flights")
    other = sqlite3.connect(home / "data.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.WARNING):
        await until(lambda: "is not stored yet" in caplog.text)
    # It has ended for itself: a wish to stop it comes too late, and must not lose its end.
    extractions = tenant.house.runtime.apps["data"].rpc["aimass.v1.Extractions"]
    await extractions._extractions._runner.cancel(Scope("acme"), begun.operation)
    other.execute("ROLLBACK")
    other.close()
    done = await tenant.ended(begun.operation)

    assert (done.state, done.error.code) == (operations_pb2.OPERATION_STATE_FAILED, "unavailable")
    assert (await tenant.extract("flights")).rows_accepted == 5


async def test_a_wish_to_stop_what_has_ended_changes_nothing(tenant: Tenant) -> None:
    extraction = await tenant.extract("flights")
    request = operations_pb2.CancelOperationRequest(operation=extraction.operation)
    stopped = await tenant.stub(OperationsStub).CancelOperation(request)

    assert (stopped.state, stopped.cancel_requested) == (operations_pb2.OPERATION_STATE_SUCCEEDED, False)
    found = await tenant.stub(ExtractionsStub).GetExtraction(pb.GetExtractionRequest(extraction=extraction.extraction))
    assert found == extraction
