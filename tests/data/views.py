"""Feature views for tests: made, materialised and read as callers do it."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from aimass.v1 import feature_views_pb2 as pb
from aimass.v1 import operations_pb2
from aimass.v1.feature_views_pb2_grpc import FeatureViewsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from services.kit.telemetry.metrics import REGISTRY
from tests.support.house import House

FOUND, MISSING, EXPIRED = (
    pb.FEATURE_ROW_STATE_FOUND,
    pb.FEATURE_ROW_STATE_MISSING,
    pb.FEATURE_ROW_STATE_EXPIRED,
)


def hours_ago(hours: float) -> datetime:
    """A time of the past."""
    return datetime.now(UTC) - timedelta(hours=hours)


def views(home: House, *permissions: str, **metadata: str) -> Any:
    return home.stub(FeatureViewsStub, "data", *permissions, **metadata)


def definition(**changes: Any) -> pb.FeatureViewDefinition:
    """Of the data set `readings`: a sensor's temperature and state."""
    said = {"data_set": "readings", "keys": ["sensor"], "event_time": "at", "features": ["temp", "state"]}
    return ParseDict(said | changes, pb.FeatureViewDefinition())


async def create(home: House, name: str = "sensors", **changes: Any) -> pb.FeatureView:
    made: pb.FeatureView = await views(home).CreateFeatureView(
        pb.CreateFeatureViewRequest(feature_view=name, definition=definition(**changes))
    )
    return made


async def ended(home: House, operation: str) -> operations_pb2.Operation:
    request = operations_pb2.WaitOperationRequest(operation=operation)
    async with asyncio.timeout(300):  # one call waits for a minute at most
        while True:
            found: operations_pb2.Operation = await home.stub(OperationsStub, "data").WaitOperation(request, timeout=60)
            if found.HasField("end_time"):
                return found


async def materialise(home: House, name: str = "sensors", **said: Any) -> pb.Materialisation:
    begun = await views(home).MaterialiseFeatureView(pb.MaterialiseFeatureViewRequest(feature_view=name, **said))
    operation = await ended(home, begun.operation)
    assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    found = pb.Materialisation()
    assert operation.response.Unpack(found)
    return found


def request(*keys: Any, name: str = "sensors", **said: Any) -> pb.ReadFeaturesRequest:
    """For keys of one value each, or of several as a list."""
    rows = [key if isinstance(key, list) else [key] for key in keys]
    made = [pb.FeatureKey(values=[ParseDict(value, Value()) for value in row]) for row in rows]
    return pb.ReadFeaturesRequest(feature_view=name, keys=made, **said)


async def read(home: House, *keys: Any, name: str = "sensors", **said: Any) -> pb.ReadFeaturesResponse:
    found: pb.ReadFeaturesResponse = await views(home).ReadFeatures(request(*keys, name=name, **said))
    return found


async def values(home: House, *keys: Any, name: str = "sensors", **said: Any) -> Sequence[Any]:
    """What is found of each key; None for what is not."""
    found = await read(home, *keys, name=name, **said)
    return [[plain(value) for value in row.values] if row.state == FOUND else None for row in found.rows]


def reads(store: str) -> float:
    """How many reads a store has answered in this process."""
    return REGISTRY.get_sample_value("aimass_feature_reads_total", {"store": store}) or 0.0


def plain(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    return None if kind in (None, "null_value") else getattr(value, kind)
