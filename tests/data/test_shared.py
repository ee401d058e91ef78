"""A data service that shares its database: what it does nobody else takes, what the dead left it takes up."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import operations_pb2
from aimass.v1.operations_pb2_grpc import OperationsStub
from services.data.database import schema
from services.kit.db import Database
from services.kit.leases import Tenure
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.support import servers
from tests.support.house import House, house, until

pytestmark = pytest.mark.far


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.flights(home)
    url = servers.database(servers.address("postgres"))
    async with house(home, "data", AIMASS_DATA_DATABASE_URL=url) as running:
        yield running


@pytest.fixture
async def tenant(running: House) -> Tenant:
    tenant = Tenant(running)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    return tenant


@pytest.fixture
def other(running: House) -> Tenure:
    """Another process of the service, as far as leases go."""
    found = Tenure(schema.tenure._leases)
    found.bind(database(running), "other")
    return found


def database(running: House) -> Database:
    found = running.runtime.apps["data"].database
    assert found
    return found


async def test_what_one_process_does_no_other_takes(tenant: Tenant, other: Tenure) -> None:
    begun = await tenant.begin("flights")
    await until(lambda: begun.operation in schema.tenure.names())
    taken = await other.take([begun.operation])
    done = await tenant.ended(begun.operation)

    assert taken == set()
    assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED


async def test_what_nobody_does_is_taken_up_without_a_restart(
    running: House, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = await undone(running, tenant, monkeypatch)
    done = await tenant.ended(operation)

    assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED


async def test_what_another_living_process_does_is_left_to_it(
    running: House, tenant: Tenant, other: Tenure, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = await undone(running, tenant, monkeypatch)
    await other.take([operation])
    renewing = asyncio.create_task(other.run())
    await asyncio.sleep(7)  # longer than a lease that nobody renews
    renewing.cancel()
    request = operations_pb2.GetOperationRequest(operation=operation)
    found = await tenant.stub(OperationsStub).GetOperation(request)

    assert found.state == operations_pb2.OPERATION_STATE_PENDING


async def undone(running: House, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> str:
    """An extraction whose process died as soon as it had said yes; its operation."""
    api: Any = running.runtime.apps["data"].rpc["aimass.v1.Extractions"]
    with monkeypatch.context() as dead:
        dead.setattr(api._extractions._runner, "begin", lambda *_: None)
        return str((await tenant.begin("flights")).operation)
