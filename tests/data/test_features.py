"""Feature sets as a client app sees them: real tables, a real child."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import pytest_asyncio

from aimass import unscale
from aimass.v1 import features_pb2 as pb
from aimass.v1 import operations_pb2 as opb
from aimass.v1.data_events_pb2 import FeatureSetFitted
from aimass.v1.datasets_pb2 import GetLineageRequest
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.features_pb2_grpc import FeatureSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from services.kit import graphs
from services.kit.errors import Code
from tests.support.house import House, house, until
from tests.support.refused import refused
from tests.support.tables import add_version, flights

pytestmark = pytest.mark.asyncio(loop_scope="module")
STEPS = [
    pb.FeatureStep(column="carrier", transform=pb.TRANSFORM_ONE_HOT),
    pb.FeatureStep(column="tailnum", transform=pb.TRANSFORM_COUNT),
    pb.FeatureStep(column="hour", transform=pb.TRANSFORM_CYCLIC, period=24),
    pb.FeatureStep(column="temp", transform=pb.TRANSFORM_STANDARDIZE, imputation=pb.IMPUTATION_MEDIAN),
]
TRAIN = pb.RowRange(column="month", to=9)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("features"), "data") as found:
        await add_version(found, "flights", flights(2000))
        await create(found, "late")
        yield found


def stub(running: House, **how: Any) -> Any:
    return running.stub(FeatureSetsStub, "data", **how)


async def create(running: House, name: str, **values: Any) -> Any:
    what = {"data_set": "flights", "label": "late", "key": "id", "steps": STEPS, **values}
    return await stub(running).CreateFeatureSet(pb.CreateFeatureSetRequest(feature_set=name, **what))


async def fit(running: House, name: str, **values: Any) -> Any:
    """The operation when it has ended."""
    started = await stub(running).FitFeatureSet(pb.FitFeatureSetRequest(feature_set=name, **values))
    return await ended(running, started.operation)


async def ended(running: House, operation: str) -> Any:
    wait = opb.WaitOperationRequest(operation=operation)
    return await running.stub(OperationsStub, "data").WaitOperation(wait)


async def version(running: House, name: str, number: int = 0) -> Any:
    return await stub(running).GetFeatureSetVersion(pb.GetFeatureSetVersionRequest(feature_set=name, version=number))


async def test_a_feature_set_is_read_back_and_listed(running: House) -> None:
    made = await create(running, "listed", description="what is known before departure")
    listed = await stub(running).ListFeatureSets(pb.ListFeatureSetsRequest(page_size=1))
    rest = pb.ListFeatureSetsRequest(page_size=1, page_token=listed.next_page_token)

    assert await stub(running).GetFeatureSet(pb.GetFeatureSetRequest(feature_set="listed")) == made
    assert (made.etag, made.latest_version, made.steps[0].max_categories) == ("1", 0, 64)
    assert [found.feature_set for found in listed.feature_sets] == ["late"]
    assert [found.feature_set for found in (await stub(running).ListFeatureSets(rest)).feature_sets] == ["listed"]


async def test_fitting_makes_a_version_with_a_graph(running: House) -> None:
    operation = await fit(running, "late", train=TRAIN)
    answer = pb.FeatureSetVersion()
    operation.response.Unpack(answer)
    found = await version(running, "late")

    assert operation.state == opb.OPERATION_STATE_SUCCEEDED, operation.error
    assert answer == found
    assert (found.version, found.data_set_version, found.train, found.label, found.key) == (1, 1, TRAIN, "late", "id")
    assert [column.name for column in found.inputs.columns] == ["carrier", "tailnum", "hour", "temp"]
    assert list(found.outputs[-4:]) == ["count(tailnum)", "sine(hour)", "cosine(hour)", "standardize(temp)"]
    rows = flights(2000).to_pandas().query("month <= 9")
    assert found.rows == len(rows)
    session = graphs.open_session(await running.runtime.blobs.get("acme", found.digest))
    one = {
        "carrier": np.array([["EV"]], object),
        "tailnum": np.array([["N7"]], object),
        "hour": np.array([[6.0]]),
        "temp": np.array([[np.nan]]),
    }
    values = dict(zip(found.outputs, session.run(None, one)[0][0].tolist(), strict=True))
    assert values["one_hot(carrier)=EV"] == 1
    assert values["count(tailnum)"] == (rows.tailnum == "N7").sum()
    assert (values["sine(hour)"], round(values["cosine(hour)"], 6)) == (1, 0)
    expected = (rows.temp.median() - rows.temp.mean()) / rows.temp.std(ddof=0)
    assert values["standardize(temp)"] == pytest.approx(expected, rel=1e-6)


async def test_a_trend_over_a_time_is_fitted_and_says_how_it_is_turned_back(running: House) -> None:
    at = [datetime(2026, 1, 1 + day, tzinfo=UTC) for day in range(20)]
    rows = {"id": list(range(20)), "late": [0, 1] * 10, "at": at, "x": [3.0 * day + day % 2 for day in range(20)]}
    await add_version(running, "daily", pa.table(rows))
    step = pb.FeatureStep(column="x", transform=pb.TRANSFORM_STANDARDIZE_TREND, order="at")
    await create(running, "trend", data_set="daily", steps=[step])
    operation = await fit(running, "trend")
    assert operation.state == opb.OPERATION_STATE_SUCCEEDED, operation.error
    found = await version(running, "trend")
    session = graphs.open_session(await running.runtime.blobs.get("acme", found.digest))
    asked = {"x": np.array([[60.0]]), "at": np.array([[at[0].timestamp() + 20 * 86_400]])}
    outputs = session.run(None, asked)[0][0].tolist()

    assert [column.name for column in found.inputs.columns] == ["x", "at"]
    assert found.scalings[0].slope * 86_400 == pytest.approx(3, abs=0.01)
    back = unscale(found, dict(zip(found.outputs, [outputs], strict=True)), {"at": asked["at"][0].tolist()})
    assert back["standardize_trend(x by at)"] == [pytest.approx(60, rel=1e-6)]


def every_step() -> list[pb.FeatureStep]:
    """A step of each transform."""
    special: dict[str, Any] = {
        "STANDARDIZE_TREND": {"order": "at"},
        "CYCLIC": {"cycle": 7.5},
        "BIN_EDGES": {"edges": [1, 10]},
        "POWER": {"exponent": 2},
        "DATE_PART": {"column": "at", "part": pb.DATE_PART_WEEKDAY},
        "DATE_CYCLIC": {"column": "at", "part": pb.DATE_PART_HOUR},
        "GEO_DISTANCE": {"longitude": "y", "to_latitude": "y", "to_longitude": "x"},
        "CROSS": {"column": "kind", "other": "x"},
        "GROUP": {"column": "lone", "group": "kind", "aggregate": pb.AGGREGATE_MEDIAN},
        **{name: {"other": "y"} for name in ("PRODUCT", "RATIO", "DIFFERENCE")},
        **{
            name: {"column": "kind"}
            for name in ("ONE_HOT", "COUNT", "ORDINAL", "TARGET", "HASH", "TEXT_HASH", "TEXT_TFIDF")
        },
    }
    names = [name.removeprefix("TRANSFORM_") for name in map(pb.Transform.Name, pb.Transform.values()[1:])]
    return [
        pb.FeatureStep(**{"column": "x", "transform": f"TRANSFORM_{name}", **special.get(name, {})}) for name in names
    ]


async def test_every_transform_is_made_fitted_and_read_back(running: House) -> None:
    count = 60
    rows = {
        "id": list(range(count)),
        "late": [number % 3 == 0 for number in range(count)],
        "x": [number / 2 for number in range(count)],
        "y": [60.0 - number for number in range(count)],
        "lone": [number * number for number in range(count)],
        "kind": [("a", "b", None)[number % 3] for number in range(count)],
        "at": [datetime(2026, 1, 1, number % 24, tzinfo=UTC) for number in range(count)],
    }
    await add_version(running, "mixed", pa.table(rows))
    steps = every_step()
    made = await create(running, "every", data_set="mixed", steps=steps)
    operation = await fit(running, "every")
    assert operation.state == opb.OPERATION_STATE_SUCCEEDED, operation.error
    found = await version(running, "every")
    session = graphs.open_session(await running.runtime.blobs.get("acme", found.digest))
    asked = {column.name: np.array([[1.0]]) for column in found.inputs.columns} | {"kind": np.array([["a"]], object)}

    assert [column.name for column in found.inputs.columns] == ["x", "kind", "at", "y"]
    assert [step.transform for step in made.steps] == [step.transform for step in steps]
    assert found.steps == made.steps
    assert len(set(found.outputs)) == session.run(None, asked)[0].shape[1] == len(found.outputs)


async def test_fitting_is_told_and_shows_in_the_lineage(running: House) -> None:
    told = await running.heard(FeatureSetFitted)
    lineage = await running.stub(DataSetsStub, "data").GetLineage(GetLineageRequest(data_set="flights", version=1))

    assert (told[0].version.feature_set, told[0].version.version, told[0].generation) == ("late", 1, 2)
    assert ("feature_set", "late", 1) in [(node.kind, node.name, node.version) for node in lineage.nodes]


async def test_versions_are_numbered_and_stay(running: House) -> None:
    first = await version(running, "late", 1)
    await fit(running, "late")

    assert (await version(running, "late")).version == 2
    assert await version(running, "late", 1) == first
    assert (await version(running, "late", 2)).rows == 2000
    assert (await refused(version(running, "late", 9))).detail == "late has no version 9"


async def test_a_repeat_by_key_is_one_fitting(running: House) -> None:
    await create(running, "twice")
    keyed = stub(running, idempotency_key="fit")
    request = pb.FitFeatureSetRequest(feature_set="twice")
    first = await keyed.FitFeatureSet(request)
    await ended(running, first.operation)
    made = await stub(running).GetFeatureSet(pb.GetFeatureSetRequest(feature_set="twice"))
    await stub(running, if_match=made.etag).DeleteFeatureSet(pb.DeleteFeatureSetRequest(feature_set="twice"))

    # Also when the world has moved on since.
    assert (await keyed.FitFeatureSet(request)).operation == first.operation
    assert made.latest_version == 1


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"steps": [pb.FeatureStep(column="none", transform=pb.TRANSFORM_IDENTITY)]}, "has no column none"),
        ({"steps": [pb.FeatureStep(column="carrier", transform=pb.TRANSFORM_MIN_MAX)]}, "carrier holds text"),
        ({"label": "nothing"}, "label: the data set has no column nothing"),
    ],
)
async def test_a_fitting_that_cannot_be_is_refused_at_once(running: House, values: dict[str, Any], says: str) -> None:
    name = f"bad-{abs(hash(says))}"
    await create(running, name, **values)
    failure = await refused(fit(running, name))

    assert failure.code is Code.INVALID_VALUE
    assert says in failure.detail


async def test_other_fittings_that_cannot_be(running: House) -> None:
    await create(running, "homeless", data_set="none")

    assert (await refused(fit(running, "none"))).code is Code.NOT_FOUND
    assert (await refused(fit(running, "homeless"))).code is Code.NOT_FOUND
    assert (await refused(fit(running, "late", data_set_version=9))).code is Code.UNKNOWN_VERSION
    assert (await refused(fit(running, "late", train=pb.RowRange(column="carrier")))).code is Code.INVALID_VALUE
    assert (await refused(version(running, "listed"))).detail == "listed has not been fitted"
    empty = await fit(running, "late", train=pb.RowRange(column="month", to=0))
    assert (empty.error.code, empty.error.detail) == ("failed_precondition", "there are no rows to fit on")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"steps": []}, Code.INVALID_VALUE),
        ({"steps": [pb.FeatureStep(column="hour")]}, Code.INVALID_VALUE),
        ({"steps": [pb.FeatureStep(column="hour", transform=pb.Transform.ValueType(99))]}, Code.INVALID_VALUE),
        ({"steps": [pb.FeatureStep(column="late", transform=pb.TRANSFORM_IDENTITY)]}, Code.INVALID_VALUE),
        ({"data_set": "../x"}, Code.INVALID_NAME),
    ],
)
async def test_a_feature_set_that_makes_no_sense_is_not_made(
    running: House, values: dict[str, Any], code: Code
) -> None:
    assert (await refused(create(running, "senseless", **values))).code is code
    assert (await refused(create(running, "late"))).code is Code.ALREADY_EXISTS


async def test_a_deleted_feature_set_is_hidden_and_comes_back(running: House) -> None:
    made = await create(running, "passing")
    delete = pb.DeleteFeatureSetRequest(feature_set="passing")
    assert (await refused(stub(running).DeleteFeatureSet(delete))).code is Code.ETAG_REQUIRED
    assert (await refused(stub(running, if_match='"9"').DeleteFeatureSet(delete))).code is Code.ETAG_MISMATCH

    gone = await stub(running, if_match=f'"{made.etag}"').DeleteFeatureSet(delete)
    assert gone.HasField("delete_time")
    assert (await refused(fit(running, "passing"))).code is Code.NOT_FOUND
    assert (await refused(create(running, "passing"))).code is Code.ALREADY_EXISTS
    back = await stub(running).UndeleteFeatureSet(pb.UndeleteFeatureSetRequest(feature_set="passing"))
    assert (back.etag, back.HasField("delete_time")) == ("3", False)


async def test_another_tenant_finds_nothing(running: House) -> None:
    rival = stub(running, tenant="rival", if_match='"1"')
    asked = [
        rival.GetFeatureSet(pb.GetFeatureSetRequest(feature_set="late")),
        rival.FitFeatureSet(pb.FitFeatureSetRequest(feature_set="late")),
        rival.GetFeatureSetVersion(pb.GetFeatureSetVersionRequest(feature_set="late")),
        rival.DeleteFeatureSet(pb.DeleteFeatureSetRequest(feature_set="late")),
        rival.UndeleteFeatureSet(pb.UndeleteFeatureSetRequest(feature_set="late")),
    ]

    assert {(await refused(call)).code for call in asked} == {Code.NOT_FOUND}
    assert not (await rival.ListFeatureSets(pb.ListFeatureSetsRequest())).feature_sets


def fitting() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "services.data.features.work" in " ".join(p.cmdline())]


async def test_a_cancelled_fitting_leaves_nothing(running: House) -> None:
    started = await stub(running).FitFeatureSet(pb.FitFeatureSetRequest(feature_set="listed"))
    await until(fitting)
    cancel = opb.CancelOperationRequest(operation=started.operation)
    await running.stub(OperationsStub, "data").CancelOperation(cancel)

    assert (await ended(running, started.operation)).state == opb.OPERATION_STATE_CANCELLED
    assert not fitting()
    assert (await refused(version(running, "listed"))).code is Code.UNKNOWN_VERSION


async def test_a_killed_child_fails_the_fitting_with_a_word(running: House) -> None:
    started = await stub(running).FitFeatureSet(pb.FitFeatureSetRequest(feature_set="listed"))
    (await until(fitting))[0].kill()

    assert (await ended(running, started.operation)).error.code == "internal"


@pytest.mark.asyncio(loop_scope="function")
async def test_a_fitting_goes_on_after_a_stop_and_ends_once(tmp_path: Path) -> None:
    async with house(tmp_path, "data") as running:
        await add_version(running, "flights", flights(2000))
        await create(running, "late")
        started = await stub(running).FitFeatureSet(pb.FitFeatureSetRequest(feature_set="late"))
        await until(fitting)
    assert not fitting()

    async with house(tmp_path, "data") as running:
        assert (await ended(running, started.operation)).state == opb.OPERATION_STATE_SUCCEEDED
        assert (await version(running, "late")).version == 1
        await asyncio.sleep(0.3)
        assert len(await running.heard(FeatureSetFitted)) == 1
