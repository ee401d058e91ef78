"""A home with a data set and a fitted feature set, made once and copied for each test."""

import asyncio
import shutil
from pathlib import Path

import pytest

from aimass.v1 import features_pb2 as fpb
from aimass.v1 import operations_pb2 as opb
from aimass.v1.features_pb2_grpc import FeatureSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from tests.support.house import house
from tests.support.tables import add_version, flights

STEPS = [
    fpb.FeatureStep(column="carrier", transform=fpb.TRANSFORM_ONE_HOT),
    fpb.FeatureStep(column="hour", transform=fpb.TRANSFORM_CYCLIC, period=24),
    fpb.FeatureStep(column="hour", transform=fpb.TRANSFORM_MIN_MAX),
    fpb.FeatureStep(column="temp", transform=fpb.TRANSFORM_STANDARDIZE, imputation=fpb.IMPUTATION_MEAN),
]


async def fill(home: Path, **env: str) -> None:
    """Makes both."""
    async with house(home, "data", **env) as running:
        await add_version(running, "flights", flights())
        sets = running.stub(FeatureSetsStub, "data")
        await sets.CreateFeatureSet(
            fpb.CreateFeatureSetRequest(feature_set="late", data_set="flights", label="late", key="id", steps=STEPS)
        )
        operation = await sets.FitFeatureSet(
            fpb.FitFeatureSetRequest(feature_set="late", train=fpb.RowRange(column="month", to=9))
        )
        wait = opb.WaitOperationRequest(operation=operation.operation)
        done = await running.stub(OperationsStub, "data").WaitOperation(wait)
        assert done.state == opb.OPERATION_STATE_SUCCEEDED, done


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("filled") / "home"
    asyncio.run(fill(home))
    return home


@pytest.fixture
def home(filled: Path, tmp_path: Path) -> Path:
    """A copy of its own for a test that changes it."""
    return Path(shutil.copytree(filled, tmp_path / "home"))
