"""Feature sets through their RPCs at the edges: keys, etags, fields, and a world that moves on while one is fitted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select, update

from aimass.v1 import features_pb2 as pb
from aimass.v1 import operations_pb2 as opb
from aimass.v1.features_pb2_grpc import FeatureSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from services.data.features.domain import Fit, Fitted
from services.data.features.service import FeatureSets
from services.data.features.store import Store, feature_set, feature_set_version
from services.kit.errors import Code, Failure
from tests.data.tables import SCOPE, add
from tests.support.house import House, house
from tests.support.refused import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")
STEPS = [pb.FeatureStep(column="x", transform=pb.TRANSFORM_IDENTITY)]
STEPS_READ = [pb.FeatureStep(column="x", transform=pb.TRANSFORM_IDENTITY, imputation=pb.IMPUTATION_NONE)]
ROWS = {"id": [1, 2, 3], "x": [1.0, 2.0, None], "late": [0, 1, 0]}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("features"), "data") as running:
        await add(running, "flights", ROWS)
        await stub(running).CreateFeatureSet(wanted("ranged"))
        yield running


def stub(home: House, **how: Any) -> Any:
    return home.stub(FeatureSetsStub, "data", **how)


def wanted(name: str, **values: Any) -> pb.CreateFeatureSetRequest:
    what = {"data_set": "flights", "label": "late", "key": "id", "steps": STEPS, **values}
    return pb.CreateFeatureSetRequest(feature_set=name, **what)


def step(**values: Any) -> dict[str, Any]:
    return {"steps": [pb.FeatureStep(**{"column": "x", "transform": pb.TRANSFORM_COUNT, **values})]}


async def ended(home: House, operation: str) -> opb.Operation:
    found: opb.Operation = await home.stub(OperationsStub, "data").WaitOperation(
        opb.WaitOperationRequest(operation=operation)
    )
    assert found.HasField("end_time")
    return found


def service(home: House) -> FeatureSets:
    found: FeatureSets = home.runtime.apps["data"].rpc["aimass.v1.FeatureSets"]._feature_sets
    return found


async def test_a_repeat_by_key_makes_one_and_answers_the_same(home: House) -> None:
    keyed = stub(home, idempotency_key="make")
    made = await keyed.CreateFeatureSet(wanted("keyed"))
    await stub(home, if_match='"1"').DeleteFeatureSet(pb.DeleteFeatureSetRequest(feature_set="keyed"))

    assert await keyed.CreateFeatureSet(wanted("keyed")) == made
    assert (await refused(keyed.CreateFeatureSet(wanted("keyed", description="x")))).code is Code.KEY_REUSED
    assert (await refused(stub(home).CreateFeatureSet(wanted("keyed")))).code is Code.ALREADY_EXISTS


async def test_of_many_who_make_the_same_one_does(home: House) -> None:
    calls = [stub(home).CreateFeatureSet(wanted("raced")) for _ in range(5)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    failures = [answer for answer in found if isinstance(answer, Failure)]

    assert [failure.code for failure in failures] == [Code.ALREADY_EXISTS] * 4


async def test_a_key_of_one_tenant_is_not_that_of_another(home: House) -> None:
    ours = await stub(home, idempotency_key="same").CreateFeatureSet(wanted("tenants"))
    theirs = await stub(home, tenant="rival", idempotency_key="same").CreateFeatureSet(
        wanted("tenants", description="x")
    )

    assert (ours.description, theirs.description) == ("", "x")
    assert (await stub(home).GetFeatureSet(pb.GetFeatureSetRequest(feature_set="tenants"))).description == ""


@pytest.mark.parametrize(
    ("values", "code", "pointer"),
    [
        ({"steps": []}, Code.INVALID_VALUE, "/steps"),
        ({"steps": STEPS * 501}, Code.INVALID_VALUE, "/steps"),
        ({"steps": STEPS * 2}, Code.INVALID_VALUE, "/steps/1"),
        (step(column=""), Code.INVALID_VALUE, "/steps/0/column"),
        (step(column="x" * 129), Code.INVALID_VALUE, "/steps/0/column"),
        (step(column="a\0"), Code.INVALID_VALUE, "/steps/0/column"),
        (step(max_categories=-1), Code.INVALID_VALUE, "/steps/0/max_categories"),
        (step(transform=pb.TRANSFORM_CYCLIC), Code.INVALID_VALUE, "/steps/0/period"),
        (step(constant=float("nan")), Code.INVALID_VALUE, "/steps/0/constant"),
        *(
            (step(**{name: number}), Code.INVALID_VALUE, f"/steps/0/{name}")
            for name in ("exponent", "cycle", "shift", "smoothing")
            for number in (float("nan"), float("inf"))
        ),
        (step(edges=[float("nan")]), Code.INVALID_VALUE, "/steps/0/edges"),
        (step(edges=[1.0] * 1001), Code.INVALID_VALUE, "/steps/0/edges"),
        (step(other="y" * 129), Code.INVALID_VALUE, "/steps/0/other"),
        (step(bins=-1), Code.INVALID_VALUE, "/steps/0/bins"),
        (step(buckets=-1), Code.INVALID_VALUE, "/steps/0/buckets"),
        (step(part=pb.DatePart.ValueType(99)), Code.INVALID_VALUE, "/steps/0/part"),
        (step(aggregate=pb.Aggregate.ValueType(99)), Code.INVALID_VALUE, "/steps/0/aggregate"),
        ({"label": ""}, Code.INVALID_VALUE, "/label"),
        ({"label": "x"}, Code.INVALID_VALUE, "/steps/0/column"),
        ({"key": "k" * 129}, Code.INVALID_VALUE, "/key"),
        ({"description": "d" * 1001}, Code.INVALID_VALUE, "/description"),
        ({"data_set": "Flights"}, Code.INVALID_NAME, "/data_set"),
    ],
)
async def test_what_makes_no_sense_is_named_by_its_place(
    home: House, values: dict[str, Any], code: Code, pointer: str
) -> None:
    failure = await refused(stub(home).CreateFeatureSet(wanted("wrong", **values)))

    assert failure.code is code
    assert pointer in [violation.pointer for violation in failure.violations]


@pytest.mark.parametrize(
    ("rows", "pointer"),
    [
        (pb.RowRange(column="x", to=float("inf")), "/train/to"),
        (pb.RowRange(column="x", **{"from": float("nan")}), "/train/from"),
        (pb.RowRange(column="x", **{"from": 2.0, "to": 1.0}), "/train"),
        (pb.RowRange(column="none"), "/train/column"),
        (pb.RowRange(), "/train/column"),
    ],
)
async def test_a_range_that_is_none_is_refused_before_a_fitting_begins(
    home: House, rows: pb.RowRange, pointer: str
) -> None:
    failure = await refused(stub(home).FitFeatureSet(pb.FitFeatureSetRequest(feature_set="ranged", train=rows)))

    assert (failure.code, failure.violations[0].pointer) == (Code.INVALID_VALUE, pointer)


async def test_undeleting_what_is_not_deleted_changes_nothing(home: House) -> None:
    made = await stub(home).CreateFeatureSet(wanted("there"))

    assert await stub(home).UndeleteFeatureSet(pb.UndeleteFeatureSetRequest(feature_set="there")) == made
    gone = [
        await stub(home, if_match='"1"').DeleteFeatureSet(pb.DeleteFeatureSetRequest(feature_set="there"))
        for _ in range(2)
    ]
    assert gone[0] == gone[1]
    assert (await refused(stub(home).UndeleteFeatureSet(pb.UndeleteFeatureSetRequest(feature_set="none")))).code is (
        Code.NOT_FOUND
    )


async def test_deleted_ones_are_listed_when_asked_for(home: House) -> None:
    tenant = {"tenant": "lister"}
    for name in ("a", "b", "c"):
        await stub(home, **tenant).CreateFeatureSet(wanted(name))
    await stub(home, **tenant, if_match='"1"').DeleteFeatureSet(pb.DeleteFeatureSetRequest(feature_set="b"))
    here = await stub(home, **tenant).ListFeatureSets(pb.ListFeatureSetsRequest())
    first = await stub(home, **tenant).ListFeatureSets(pb.ListFeatureSetsRequest(show_deleted=True, page_size=2))
    rest = pb.ListFeatureSetsRequest(show_deleted=True, page_size=2, page_token=first.next_page_token)
    second = await stub(home, **tenant).ListFeatureSets(rest)

    assert [found.feature_set for found in here.feature_sets] == ["a", "c"]
    assert [found.feature_set for found in (*first.feature_sets, *second.feature_sets)] == ["a", "b", "c"]
    assert not second.next_page_token


async def test_one_that_is_deleted_while_it_is_fitted_gets_no_version(home: House) -> None:
    await stub(home).CreateFeatureSet(wanted("leaving"))
    begun = await stub(home).FitFeatureSet(pb.FitFeatureSetRequest(feature_set="leaving"))
    await stub(home, if_match="*").DeleteFeatureSet(pb.DeleteFeatureSetRequest(feature_set="leaving"))
    operation = await ended(home, begun.operation)

    assert (operation.state, operation.error.code) == (opb.OPERATION_STATE_FAILED, "failed_precondition")
    assert operation.error.detail == "the feature set leaving was deleted while it was fitted"
    back = await stub(home).UndeleteFeatureSet(pb.UndeleteFeatureSetRequest(feature_set="leaving"))
    assert back.latest_version == 0


async def test_fittings_of_the_same_wait_for_each_other_and_all_end(home: House) -> None:
    await stub(home).CreateFeatureSet(wanted("busy"))
    request = pb.FitFeatureSetRequest(feature_set="busy")
    begun = [await stub(home).FitFeatureSet(request) for _ in range(2)]
    ends = [await ended(home, one.operation) for one in begun]
    versions = []
    for operation in ends:
        found = pb.FeatureSetVersion()
        assert operation.response.Unpack(found)
        versions.append(found)

    assert [version.version for version in versions] == [1, 2]
    assert versions[0].digest == versions[1].digest


async def test_a_fitting_that_has_ended_cannot_be_cancelled_or_ended_again(home: House) -> None:
    found = await stub(home).GetFeatureSet(pb.GetFeatureSetRequest(feature_set="busy"))
    operations = home.stub(OperationsStub, "data")
    (operation, *_) = (await operations.ListOperations(opb.ListOperationsRequest(service="data"))).operations
    cancelled = await operations.CancelOperation(opb.CancelOperationRequest(operation=operation.operation))
    now = home.runtime.now()
    fit = Fit(operation.operation, "busy", "flights", 1, None, (), "late", "id", (), now)
    database = home.runtime.apps["data"].database
    assert database
    store = Store(database)
    await store.fittings.give_up(SCOPE, fit.operation, Failure(Code.INTERNAL, "late"))

    with pytest.raises(Failure, match="the fitting has ended"):
        await store.finish(
            SCOPE, fit, Fitted(1, (), "sha256:0", 1), now, lambda connection, after, version: pb.FeatureSet()
        )
    assert cancelled.state == opb.OPERATION_STATE_SUCCEEDED
    assert await stub(home).GetFeatureSet(pb.GetFeatureSetRequest(feature_set="busy")) == found
    assert await store.fittings.unfinished() == []


async def test_no_scratch_is_left_behind(home: House) -> None:
    assert list(home.runtime.blobs.scratch("acme").iterdir()) == []
    assert service(home)._runner._running == {}


@pytest.mark.asyncio(loop_scope="function")
async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, "data") as home:
        made = await stub(home, idempotency_key="k").CreateFeatureSet(wanted("kept", description="x"))
    async with house(tmp_path, "data") as home:
        assert await stub(home).GetFeatureSet(pb.GetFeatureSetRequest(feature_set="kept")) == made
        assert await stub(home, idempotency_key="k").CreateFeatureSet(wanted("kept", description="x")) == made


@pytest.mark.asyncio(loop_scope="function")
async def test_what_was_kept_before_there_were_more_steps_still_opens_and_is_fitted(tmp_path: Path) -> None:
    step = {"column": "x", "transform": "identity", "imputation": "none", "constant": 0.0}
    old = [{**step, "period": 0, "offset": 0, "max_categories": 64}]
    async with house(tmp_path, "data") as home:
        await add(home, "flights", ROWS)
        await stub(home).CreateFeatureSet(wanted("old"))
        first = await stub(home).FitFeatureSet(pb.FitFeatureSetRequest(feature_set="old"))
        await ended(home, first.operation)
        database = home.runtime.apps["data"].database
        assert database
        row = await database.run(lambda c: c.execute(select(feature_set_version.c.definition)).scalar_one())
        row = {name: value for name, value in row.items() if name != "scalings"} | {"steps": old}
        await database.run(lambda c: c.execute(update(feature_set_version).values(definition=row)) and None)
        await database.run(lambda c: c.execute(update(feature_set).values(steps=old)) and None)
    async with house(tmp_path, "data") as home:
        asked = pb.GetFeatureSetVersionRequest(feature_set="old")
        assert list((await stub(home).GetFeatureSetVersion(asked)).steps) == STEPS_READ
        again = await stub(home).FitFeatureSet(pb.FitFeatureSetRequest(feature_set="old"))
        assert (await ended(home, again.operation)).state == opb.OPERATION_STATE_SUCCEEDED
        assert (await stub(home).GetFeatureSetVersion(asked)).version == 2
