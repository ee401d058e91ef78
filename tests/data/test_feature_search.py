"""Feature search as a client app sees it: real tables, a real child."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import pytest_asyncio

from aimass.v1 import feature_search_pb2 as pb
from aimass.v1 import features_pb2 as features
from aimass.v1 import operations_pb2 as opb
from aimass.v1.datasets_pb2 import GetDataSetRequest, MaskColumnsRequest
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.feature_search_pb2_grpc import FeatureSearchesStub
from aimass.v1.features_pb2_grpc import FeatureSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from services.kit.errors import Code
from tests.support.house import House, house, until
from tests.support.refused import refused
from tests.support.tables import add_version

pytestmark = pytest.mark.asyncio(loop_scope="module")


def parcels(rows: int = 3000, seed: int = 1) -> Any:
    """Parcels whose lateness is known from two columns together; `late_minutes` is known too late."""
    random = np.random.default_rng(seed)
    weight, speed = random.lognormal(0, 0.6, rows), random.normal(size=rows)
    late = random.random(rows) < 1 / (1 + np.exp(-2 * weight * speed))
    return pa.table(
        {
            "id": np.arange(rows),
            "week": random.integers(1, 53, rows),
            "weight": weight,
            "speed": speed,
            "courier": pa.array([f"c{number}" for number in random.integers(0, 9, rows)]),
            "secret": random.normal(size=rows),
            "late_minutes": np.where(late, random.exponential(30, rows), 0.0),
            "late": late.astype(np.int64),
        }
    )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("feature-search"), "data") as found:
        await add_version(found, "parcels", parcels())
        yield found


async def search(running: House, **wanted: Any) -> Any:
    """The operation when it has ended."""
    request = pb.SearchFeaturesRequest(**{"data_set": "parcels", "label": "late", **wanted})
    started = await running.stub(FeatureSearchesStub, "data").SearchFeatures(request)
    return await ended(running, started.operation)


async def ended(running: House, operation: str) -> Any:
    wait = opb.WaitOperationRequest(operation=operation)
    while not (found := await running.stub(OperationsStub, "data").WaitOperation(wait)).HasField("end_time"):
        pass
    return found


async def test_a_search_proposes_steps_that_a_feature_set_takes(running: House) -> None:
    operation = await search(running, train=features.RowRange(column="week", to=40))
    found = pb.FeatureSearch()
    operation.response.Unpack(found)

    assert operation.state == opb.OPERATION_STATE_SUCCEEDED, operation.error
    assert {(refusal.column, refusal.leak) for refusal in found.refusals} == {
        ("id", pb.LEAK_ID),
        ("late_minutes", pb.LEAK_TARGET),
    }
    best = found.proposals[0]
    assert {best.step.column, best.step.other} == {"weight", "speed"}
    assert best.gain_low > 0
    assert (found.data_set_version, found.label) == (1, "late")
    assert 1500 < found.rows < 3000
    made = features.CreateFeatureSetRequest(
        feature_set="found", data_set="parcels", label="late", key="id", steps=[one.step for one in found.proposals]
    )
    assert (await running.stub(FeatureSetsStub, "data").CreateFeatureSet(made)).feature_set == "found"


async def test_the_same_search_finds_the_same(running: House) -> None:
    first, second = [(await search(running)).response for _ in range(2)]

    assert first == second


@pytest.mark.parametrize(
    ("wanted", "rule"),
    [
        ({"data_set": "nothing"}, "no data set nothing"),
        ({"label": "courier"}, "label: must be a column of 0 and 1; courier is not"),
        ({"label": "none"}, "label: must be a column of 0 and 1; none is not"),
        ({"time": "week"}, "time: must be a column of times; week is not"),
        ({"exclude": ["none"]}, "exclude.0: the data set has no column none"),
        ({"time": "week", "exclude": ["id", "week"]}, "exclude.1: is the time, which says what is known too late"),
        ({"allow": ["id", "none"]}, "allow.1: the data set has no column none"),
        ({"rows": 10}, "rows: must lie between 1000 and 200000"),
        ({"false_discovery_rate": 0.9}, "false_discovery_rate: must lie between 0.001 and 0.5"),
        ({"false_discovery_rate": float("nan")}, "false_discovery_rate"),
        ({"cpu_seconds": -1}, "cpu_seconds must lie between 0 and 10000000"),
        ({"train": features.RowRange(column="courier")}, "must be a numeric column"),
        ({"data_set_version": 7}, "7"),
    ],
)
async def test_a_wish_that_cannot_be_is_refused(running: House, wanted: Any, rule: str) -> None:
    failure = await refused(search(running, **wanted))

    assert rule in str(failure)


async def test_labels_that_are_no_labels_end_the_search(running: House) -> None:
    operation = await search(running, label="week")

    assert operation.state == opb.OPERATION_STATE_FAILED
    assert "week must hold 0 and 1" in operation.error.detail


async def test_a_data_set_without_rows_says_too_little(running: House) -> None:
    await add_version(running, "empty", parcels().slice(0, 0))
    operation = await search(running, data_set="empty")

    assert (operation.error.code, "a search needs 1000 rows" in operation.error.detail) == ("failed_precondition", True)


async def test_who_does_not_see_a_column_searches_without_it(running: House) -> None:
    await add_version(running, "masked", parcels(2000))
    etag = (await running.stub(DataSetsStub, "data").GetDataSet(GetDataSetRequest(data_set="masked"))).etag
    mask = MaskColumnsRequest(data_set="masked", columns=["secret"])
    await running.stub(DataSetsStub, "data", if_match=etag).MaskColumns(mask)
    stub = running.stub(FeatureSearchesStub, "data", "feature_sets.discover")

    failure = await refused(stub.SearchFeatures(pb.SearchFeaturesRequest(data_set="masked", label="late")))
    assert failure.code is Code.FORBIDDEN
    without = pb.SearchFeaturesRequest(data_set="masked", label="late", exclude=["secret"])
    assert (await ended(running, (await stub.SearchFeatures(without)).operation)).state == opb.OPERATION_STATE_SUCCEEDED


def searching() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "services.data.feature_search.work" in " ".join(p.cmdline())]


async def begin(running: House) -> str:
    request = pb.SearchFeaturesRequest(data_set="parcels", label="late")
    started = await running.stub(FeatureSearchesStub, "data").SearchFeatures(request)
    await until(searching)
    return str(started.operation)


async def test_a_cancelled_search_leaves_nothing(running: House) -> None:
    operation = await begin(running)
    cancel = opb.CancelOperationRequest(operation=operation)
    await running.stub(OperationsStub, "data").CancelOperation(cancel)

    assert (await ended(running, operation)).state == opb.OPERATION_STATE_CANCELLED
    assert not searching()


async def test_a_killed_child_fails_the_search_with_a_word(running: House) -> None:
    operation = await begin(running)
    searching()[0].kill()

    assert (await ended(running, operation)).error.code == "internal"


@pytest.mark.asyncio(loop_scope="function")
async def test_a_search_goes_on_after_a_stop(tmp_path: Path) -> None:
    async with house(tmp_path, "data") as running:
        await add_version(running, "parcels", parcels())
        operation = await begin(running)
    assert not searching()

    async with house(tmp_path, "data") as running:
        assert (await ended(running, operation)).state == opb.OPERATION_STATE_SUCCEEDED
