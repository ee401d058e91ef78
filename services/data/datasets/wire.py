"""Data sets between the domain and the wire."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, Struct

from aimass.v1 import datasets_pb2 as pb
from aimass.v1 import schema_pb2
from services.data.datasets.domain import DataSet, DataSetVersion, Lineage, LineageNode, Location, Quality
from services.data.wire import schema_to_wire
from services.kit.timestamps import to_wire


def data_set_to_wire(found: DataSet) -> pb.DataSet:
    """A data set; its etag is its generation."""
    return pb.DataSet(
        data_set=found.data_set,
        description=found.description,
        latest_version=found.latest_version,
        etag=str(found.generation),
        create_time=to_wire(found.create_time),
        update_time=to_wire(found.update_time),
        delete_time=to_wire(found.delete_time),
    )


def version_to_wire(found: DataSetVersion) -> pb.DataSetVersion:
    """A version with schema, quality and parents."""
    return pb.DataSetVersion(
        data_set=found.data_set,
        version=found.version,
        rows=found.rows,
        bytes=found.bytes,
        rows_added=found.rows_added,
        digest=found.digest,
        schema=schema_to_wire(found.columns),
        quality=quality_to_wire(found.quality),
        parents=[node_to_wire(node) for node in found.parents],
        create_time=to_wire(found.create_time),
    )


def quality_to_wire(found: Quality) -> schema_pb2.QualityReport:
    """What was found in a version."""
    columns = [
        schema_pb2.ColumnQuality(
            column=quality.column,
            nulls=quality.nulls,
            distinct=min(
                quality.distinct, max(found.rows - quality.nulls, 0)
            ),  # an estimate may be above what there is
            minimum=quality.minimum,
            maximum=quality.maximum,
            mean=quality.mean,
        )
        for quality in found.columns
    ]
    return schema_pb2.QualityReport(
        rows=found.rows, quarantined=found.quarantined, excluded=found.excluded, columns=columns
    )


def node_to_wire(node: LineageNode) -> pb.LineageNode:
    """A node of a lineage graph."""
    return pb.LineageNode(kind=node.kind, name=node.name, version=node.version)


def lineage_to_wire(found: Lineage) -> pb.Lineage:
    """A lineage graph."""
    lineage = pb.Lineage(nodes=[node_to_wire(node) for node in found.nodes])
    for start, end in found.edges:
        edge = lineage.edges.add(to=node_to_wire(end))
        getattr(edge, "from").CopyFrom(node_to_wire(start))  # a word that Python keeps for itself
    return lineage


def location_to_wire(found: Location) -> pb.DataSetLocation:
    """Where a version lies."""
    return pb.DataSetLocation(
        uri=found.uri,
        delta_version=found.delta_version,
        version=version_to_wire(found.version),
        files=[pb.DataSetFile(**vars(file)) for file in found.files],
    )


def add_rows(rows: Iterable[Mapping[str, Any]], answer: Any) -> None:
    """Puts rows of JSON values, none of them nested, into an answer: in place, because a copy costs as much again.

    Takes milliseconds for a thousand: call it beside the event loop.
    """
    for row in rows:
        _fill(answer.rows.add(), row)


def _fill(struct: Struct, row: Mapping[str, Any]) -> None:
    fields = struct.fields
    for name, value in row.items():
        if value is None:
            fields[name].null_value = NULL_VALUE
        elif isinstance(value, str):
            fields[name].string_value = value
        elif isinstance(value, bool):
            fields[name].bool_value = value
        else:
            fields[name].number_value = value
