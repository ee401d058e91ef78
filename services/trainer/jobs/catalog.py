"""Versions of feature sets and data sets: the port, and the adapter that asks the data service."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from aimass.v1.datasets_pb2 import GetDataSetVersionRequest
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.features_pb2 import GetFeatureSetVersionRequest
from aimass.v1.features_pb2_grpc import FeatureSetsStub
from aimass.v1.schema_pb2 import ColumnType
from services.kit.auth import Scope
from services.trainer.jobs.domain import Inputs

Metadata = Callable[[Scope, str], Any]
PERMISSIONS = ("feature_sets.get", "data_sets.locate")


@dataclass(frozen=True)
class Known:
    """A version of a data set: its number, and its columns with their types."""

    version: int
    columns: dict[str, str]


class Catalog(Protocol):
    """Raises not_found, unknown_version, unavailable."""

    async def features(self, scope: Scope, feature_set: str, version: int) -> tuple[int, Inputs]:
        """A fitted version, the newest for 0: its number and what it takes and gives."""

    async def data(self, scope: Scope, data_set: str, version: int) -> Known:
        """A version of a data set, the newest for 0."""


class DataService:
    """Asks the data service."""

    def __init__(self, channel: Callable[[], Any], metadata: Metadata) -> None:
        """`channel` returns a channel to it; `metadata` signs a call for a scope with a permission."""
        self._channel, self._metadata = channel, metadata

    async def features(self, scope: Scope, feature_set: str, version: int) -> tuple[int, Inputs]:
        request = GetFeatureSetVersionRequest(feature_set=feature_set, version=version)
        stub = cast(Any, FeatureSetsStub(self._channel()))
        found = await stub.GetFeatureSetVersion(request, metadata=self._metadata(scope, PERMISSIONS[0]))
        columns = tuple((column.name, type_name(column.type)) for column in found.inputs.columns)
        inputs = Inputs(found.data_set, found.digest, columns, tuple(found.outputs), found.label, found.key)
        return found.version, inputs

    async def data(self, scope: Scope, data_set: str, version: int) -> Known:
        request = GetDataSetVersionRequest(data_set=data_set, version=version)
        stub = cast(Any, DataSetsStub(self._channel()))
        found = await stub.LocateDataSetVersion(request, metadata=self._metadata(scope, PERMISSIONS[1]))
        schema = found.version.schema.columns
        return Known(found.version.version, {column.name: type_name(column.type) for column in schema})


def type_name(kind: Any) -> str:
    """`string` for COLUMN_TYPE_STRING."""
    return ColumnType.Name(kind).removeprefix("COLUMN_TYPE_").lower()
