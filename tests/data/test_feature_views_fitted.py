"""Features of a fitted feature set: what is read by key and what is joined are the bytes of one graph."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aimass.v1 import datasets_pb2, features_pb2, operations_pb2
from aimass.v1 import feature_views_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.features_pb2_grpc import FeatureSetsStub
from services.kit import graphs
from services.kit.errors import Code, Failure
from tests.data.tables import add
from tests.data.test_feature_joins import asked, join, rows
from tests.data.views import create, ended, hours_ago, materialise, read, request, values, views
from tests.support.house import House, house
from tests.support.refused import code_of

STEPS = [
    features_pb2.FeatureStep(
        column="temp", transform=features_pb2.TRANSFORM_STANDARDIZE, imputation=features_pb2.IMPUTATION_MEAN
    ),
    features_pb2.FeatureStep(column="temp", transform=features_pb2.TRANSFORM_LOG, shift=50.0),
    features_pb2.FeatureStep(column="state", transform=features_pb2.TRANSFORM_ONE_HOT),
    features_pb2.FeatureStep(
        column="at", transform=features_pb2.TRANSFORM_DATE_CYCLIC, part=features_pb2.DATE_PART_HOUR
    ),
]
STATES = ["on", "off", None, "idle"]
SENSORS = [f"s{number}" for number in range(60)]


def readings(seed: int, hours: float) -> pa.Table:
    """A row of each sensor, with numbers that are no short decimals, and some that are missing."""
    rng = np.random.default_rng(seed)
    temps, ages = rng.normal(10, 7, len(SENSORS)), rng.uniform(0, 1, len(SENSORS))
    return pa.table(
        {
            "id": np.arange(len(SENSORS)) + seed * 1000,
            "sensor": SENSORS,
            "at": pa.array([hours_ago(hours + one) for one in ages], pa.timestamp("us", "UTC")),
            "temp": pa.array(temps, mask=rng.uniform(size=len(SENSORS)) < 0.1),
            "state": [STATES[place] for place in rng.integers(0, len(STATES), len(SENSORS))],
            "late": rng.integers(0, 2, len(SENSORS)),
        }
    )


@pytest.fixture(params=["database", pytest.param("redis", marks=pytest.mark.far)])
async def running(home: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    far = request.param == "redis"
    env = {"AIMASS_DATA_FEATURES_URL": request.getfixturevalue("redis_server").address} if far else {}
    async with house(home, "data", **env) as found:
        await add(found, "readings", readings(1, 10), append=True)
        made: dict[str, Any] = {"data_set": "readings", "label": "late", "key": "id", "steps": STEPS}
        await sets(found).CreateFeatureSet(features_pb2.CreateFeatureSetRequest(feature_set="scaled", **made))
        await fit(found)
        yield found


def sets(running: House) -> Any:
    return running.stub(FeatureSetsStub, "data")


async def fit(running: House) -> features_pb2.FeatureSetVersion:
    begun = await sets(running).FitFeatureSet(features_pb2.FitFeatureSetRequest(feature_set="scaled"))
    operation = await ended(running, begun.operation)
    assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    found = features_pb2.FeatureSetVersion()
    assert operation.response.Unpack(found)
    return found


async def computed(running: House, table: pa.Table, number: int = 0) -> Any:
    """The outputs of the graph of a fitted version, by the graph alone, row by row."""
    wanted = features_pb2.GetFeatureSetVersionRequest(feature_set="scaled", version=number)
    version = await sets(running).GetFeatureSetVersion(wanted)
    session = graphs.open_session(await running.runtime.blobs.get("acme", version.digest))
    found = []
    for row in table.to_pylist():
        temp = np.array([[np.nan if row["temp"] is None else row["temp"]]])
        micros = np.array([[row["at"].timestamp()]])
        feeds = {"temp": temp, "state": np.array([[row["state"] or ""]], object), "at": micros}
        found.append(session.run(["features"], feeds)[0][0])
    return list(version.outputs), np.array(found, np.float32)


def exact(found: list[list[Any]]) -> Any:
    """As FP32, without a loss; what is no number is NaN."""
    numbers = np.array([[np.nan if each in (None, "NaN") else each for each in row] for row in found], np.float64)
    assert (np.isnan(numbers) | (numbers.astype(np.float32) == numbers)).all()
    return numbers.astype(np.float32)


def same(one: Any, other: Any) -> bool:
    """Whether all bytes are, but for the bits of what is no number."""
    gone = np.isnan(one)
    return bool((gone == np.isnan(other)).all() and one[~gone].tobytes() == other[~gone].tobytes())


async def test_what_is_read_and_what_is_joined_are_the_bytes_of_the_graph(running: House) -> None:
    newest, planted = readings(2, 2), readings(3, -5)
    await add(running, "readings", newest, append=True)
    made = await create(running, features=[], feature_set="scaled")
    assert made.latest_version == 1
    await materialise(running)
    outputs, wanted = await computed(running, newest)
    answer = await read(running, *SENSORS)
    assert list(answer.features) == outputs
    online = exact(list(await values(running, *SENSORS)))
    assert same(online, wanted)
    assert len(np.unique(wanted)) > 60

    await add(running, "readings", planted, append=True)  # of the future: it changes nothing
    assert (await materialise(running)).future_rows == len(SENSORS)
    assert same(exact(list(await values(running, *SENSORS))), wanted)
    await add(running, "asked", asked(*((sensor, hours_ago(0)) for sensor in SENSORS)))
    assert (await join(running)).found == [len(SENSORS)]
    offline = [[row[f"last_{name}"] for name in outputs] for row in await rows(running)]
    assert same(exact(offline), online)
    lineage = await running.stub(DataSetsStub, "data").GetLineage(datasets_pb2.GetLineageRequest(data_set="training"))
    assert "scaled" in {node.name for node in lineage.nodes}


async def test_a_new_fitting_is_used_by_a_new_version_only(running: House) -> None:
    await create(running, features=[], feature_set="scaled")
    await materialise(running)
    before = exact(list(await values(running, *SENSORS)))
    again = readings(4, 1)
    await add(running, "readings", again, append=True)
    assert (await fit(running)).version == 2
    await materialise(running)
    _, old = await computed(running, again, 1)
    _, new = await computed(running, again, 2)
    assert same(exact(list(await values(running, *SENSORS))), old)
    assert not same(old, new)
    assert not same(old, before)

    wanted = pb.FeatureViewDefinition(data_set="readings", keys=["sensor"], event_time="at", feature_set="scaled")
    made = pb.CreateFeatureViewVersionRequest(feature_view="sensors", definition=wanted)
    version = await views(running).CreateFeatureViewVersion(made)
    assert (version.version, version.definition.feature_set_version) == (2, 2)
    assert same(exact(list(await values(running, *SENSORS))), old)
    await materialise(running)
    assert same(exact(list(await values(running, *SENSORS, version=2))), new)
    assert same(exact(list(await values(running, *SENSORS, version=1))), old)


async def test_some_outputs_are_features_in_the_order_that_is_asked_for(running: House) -> None:
    outputs, wanted = await computed(running, readings(1, 10))
    chosen = [outputs[3], outputs[0]]
    await create(running, features=chosen, feature_set="scaled", feature_set_version=1)
    await materialise(running)

    assert list((await read(running, SENSORS[0])).features) == chosen
    found = exact(list(await values(running, *SENSORS, features=chosen[1:])))
    assert same(found, wanted[:, :1])


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"feature_set": "nobody"}, Code.NOT_FOUND, None),
        ({"feature_set_version": 2}, Code.UNKNOWN_VERSION, None),
        ({"features": ["temp_unknown"]}, Code.INVALID_VALUE, "/definition/features/0"),
        ({"data_set": "others"}, Code.INVALID_VALUE, "/definition/feature_set"),
        ({"feature_set": "No Name"}, Code.INVALID_NAME, "/definition/feature_set"),
    ],
)
async def test_a_definition_that_cannot_be_is_refused(
    running: House, changes: dict[str, Any], code: Code, pointer: str | None
) -> None:
    await add(running, "others", readings(1, 3).drop_columns(["temp"]))

    with pytest.raises(Failure) as caught:
        await create(running, **{"features": [], "feature_set": "scaled", **changes})

    assert caught.value.code is code
    assert [violation.pointer for violation in caught.value.violations] == ([pointer] if pointer else [])


async def test_who_does_not_see_what_a_graph_takes_gets_none_of_its_outputs(running: House) -> None:
    await create(running, features=[], feature_set="scaled")
    await materialise(running)
    mask = datasets_pb2.MaskColumnsRequest(data_set="readings", columns=["late"])  # what it was fitted with
    await running.stub(DataSetsStub, "data", if_match='"2"').MaskColumns(mask)
    plain = views(running, "feature_views.read", "feature_views.materialise")
    again = pb.MaterialiseFeatureViewRequest(feature_view="sensors")

    assert await code_of(plain.MaterialiseFeatureView(again)) is Code.FORBIDDEN
    assert await code_of(plain.ReadFeatures(request(SENSORS[0]))) is Code.FORBIDDEN
    assert (await values(running, SENSORS[0]))[0] is not None


async def test_nor_who_reads_them_of_a_branch(running: House) -> None:
    branch = datasets_pb2.BranchDataSetRequest(data_set="readings", branch="trial")
    await running.stub(DataSetsStub, "data").BranchDataSet(branch)
    await create(running, data_set="trial", features=[], feature_set="scaled")
    await materialise(running)
    mask = datasets_pb2.MaskColumnsRequest(data_set="readings", columns=["late"])
    await running.stub(DataSetsStub, "data", if_match='"2"').MaskColumns(mask)
    plain = views(running, "feature_views.read")

    assert await code_of(plain.ReadFeatures(request(SENSORS[0]))) is Code.FORBIDDEN
    assert (await values(running, SENSORS[0]))[0] is not None


async def test_a_column_may_be_key_and_feature(running: House) -> None:
    await create(running, features=["sensor", "late"])
    await materialise(running)

    assert (await values(running, "s3"))[0][0] == "s3"
