"""A data service that shares its database: what it does nobody else takes, what the dead left it takes up."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from aimass.v1 import features_pb2, operations_pb2
from aimass.v1.features_pb2_grpc import FeatureSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from services.data.database import schema
from services.data.features.domain import Fitted
from services.data.features.store import Store
from services.kit.db import Database
from services.kit.errors import Code, Failure, Internal
from services.kit.leases import Tenure
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.support import servers
from tests.support.house import House, house, until
from tests.support.tables import add_version, flights

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


@pytest.fixture
async def fitting(running: House, other: Tenure, monkeypatch: pytest.MonkeyPatch) -> str:
    """The operation of a fitting that another living process does."""
    await add_version(running, "flights", flights(200))
    stub = running.stub(FeatureSetsStub, "data")
    steps = [features_pb2.FeatureStep(column="carrier", transform=features_pb2.TRANSFORM_ONE_HOT)]
    what: dict[str, Any] = {"feature_set": "late", "data_set": "flights", "label": "late", "key": "id", "steps": steps}
    await stub.CreateFeatureSet(features_pb2.CreateFeatureSetRequest(**what))
    with monkeypatch.context() as dead:
        dead.setattr(features(running)._runner, "_start", lambda *_: None)
        begun = await stub.FitFeatureSet(features_pb2.FitFeatureSetRequest(feature_set="late"))
        await database(running).write(lambda c: other._leases.take(c, [begun.operation], "other", 60, seize=True))
        assert await other.take([begun.operation])
    return str(begun.operation)


def features(running: House) -> Any:
    api: Any = running.runtime.apps["data"].rpc["aimass.v1.FeatureSets"]
    return api._feature_sets


async def test_a_fitting_that_another_process_does_is_left_to_it_to_cancel(
    running: House, tenant: Tenant, other: Tenure, fitting: str
) -> None:
    operations = running.stub(OperationsStub, "data")
    found = await operations.CancelOperation(operations_pb2.CancelOperationRequest(operation=fitting))
    assert found.state == operations_pb2.OPERATION_STATE_PENDING
    assert found.cancel_requested

    await other.close()  # it stops; who takes it up finds the wish
    await until(lambda: _ended_as(operations, fitting, operations_pb2.OPERATION_STATE_CANCELLED))
    await until(lambda: fitting not in schema.tenure.names())


async def _ended_as(operations: Any, operation: str, state: Any) -> bool:
    found = await operations.GetOperation(operations_pb2.GetOperationRequest(operation=operation))
    return bool(found.state == state)


async def test_a_fitting_is_ended_by_nobody_who_stood_still_too_long(running: House, fitting: str) -> None:
    store: Store = features(running)._store
    ((scope, fit),) = await store.fittings.unfinished()

    def never(*_: object) -> NoReturn:
        raise AssertionError("nothing happens for who is too late")

    late = store.finish(scope, fit, Fitted(1, (), "sha256:0", 1), running.runtime.now(), never)
    for end in (store.fittings.give_up(scope, fit.operation, Internal("the child failed")), late):
        with pytest.raises(Failure) as caught:
            await end
        assert caught.value.code is Code.FENCE_STALE

    assert await store.fittings.unfinished() == [(scope, fit)]
