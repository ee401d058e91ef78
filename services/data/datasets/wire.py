"""Data sets between the domain and the wire."""

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, Struct

from aimass.v1 import datasets_pb2 as pb
from aimass.v1 import schema_pb2
from services.data.datasets.differences import Diff, Kind
from services.data.datasets.domain import DataSet, DataSetVersion, Lineage, LineageNode, Location, Quality, Tag, Which
from services.data.datasets.evolution import SchemaChange
from services.data.datasets.layouts import brief
from services.data.datasets.masking import hidden_of, veiled_layout
from services.data.datasets.wire_layouts import layout_to_wire
from services.data.wire import schema_to_wire
from services.kit.errors import InvalidValue, Violation
from services.kit.fields import masked
from services.kit.timestamps import to_wire


def data_set_to_wire(found: DataSet, shorten: bool = False) -> pb.DataSet:
    """A data set; its etag is its generation. `shorten`: without the keys of partitions where they are many."""
    layout = veiled_layout(found.layout, hidden_of(found.masked_columns))
    return pb.DataSet(
        data_set=found.data_set,
        description=found.description,
        latest_version=found.latest_version,
        etag=str(found.generation),
        create_time=to_wire(found.create_time),
        update_time=to_wire(found.update_time),
        delete_time=to_wire(found.delete_time),
        owner=found.owner,
        masked_columns=found.masked_columns,
        partitioning=layout_to_wire(brief(layout) if shorten else layout),
        landed_from=found.landed_from,
        branch_of=found.branch_of,
        branch_version=found.branch_version,
        refused_changes=[pb.SchemaChange.Value(f"SCHEMA_CHANGE_{change.name}") for change in found.refused_changes],
    )


def changes_from_wire(request: pb.UpdateDataSetRequest) -> dict[str, Any]:
    """The values of the fields that an update names. Raises invalid_value."""
    values = {name: getattr(request, name) for name in masked(request, ("description", "owner", "refused_changes"))}
    if "refused_changes" in values:
        asked = dict.fromkeys(request.refused_changes)
        if unknown := [change for change in asked if change not in pb.SchemaChange.values()[1:]]:
            at = f"/refused_changes/{list(request.refused_changes).index(unknown[0])}"
            raise InvalidValue("refused_changes names no change", [Violation(at, "must be a change of columns")])
        names = [pb.SchemaChange.Name(change).removeprefix("SCHEMA_CHANGE_").lower() for change in asked]
        values["refused_changes"] = tuple(map(SchemaChange, names))
    return values


def version_to_wire(found: DataSetVersion, shorten: bool = False) -> pb.DataSetVersion:
    """A version with schema, quality and parents. `shorten`: as with a data set."""
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
        partitioning=layout_to_wire(brief(found.layout) if shorten else found.layout),
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
        rows=found.rows,
        quarantined=found.quarantined,
        excluded=found.excluded,
        columns=columns,
        warnings=found.warnings,
    )


def which_from_wire(request: Any) -> Which:
    """The version that a request says by number, tag or time."""
    as_of = request.as_of.ToDatetime(tzinfo=UTC) if request.HasField("as_of") else None
    return Which(request.version, request.tag, as_of)


def tag_to_wire(found: Tag) -> pb.DataSetTag:
    """A tag; its etag is its generation."""
    return pb.DataSetTag(
        data_set=found.data_set,
        tag=found.tag,
        version=found.version,
        etag=str(found.generation),
        create_time=to_wire(found.create_time),
        update_time=to_wire(found.update_time),
    )


def diff_to_wire(found: Diff) -> pb.DataSetDiff:
    """How two versions differ. Takes milliseconds for a thousand rows: call it beside the event loop."""
    answer = pb.DataSetDiff(
        base_version=found.before.version,
        version=found.after.version,
        rows_added=found.counts[Kind.ADDED],
        rows_removed=found.counts[Kind.REMOVED],
        rows_changed=found.counts[Kind.CHANGED],
        rows_unchanged=found.unchanged,
        changed_columns=found.changed_columns,
        next_page_token=found.next_token,
    )
    for column in found.columns:
        told = answer.schema.add(column=column.column, kind=_kind_to_wire(column.kind))
        for side, there in ((told.before, column.before), (told.after, column.after)):
            if there:
                side.CopyFrom(schema_to_wire([there]).columns[0])
    for row in found.rows:
        kept = answer.rows.add(kind=_kind_to_wire(row.kind), columns=row.columns)
        for struct, values in ((kept.before, row.before), (kept.after, row.after)):
            if values is not None:
                struct.SetInParent()
                _fill(struct, values)
    return answer


def _kind_to_wire(kind: Kind) -> pb.DiffKind.ValueType:
    return pb.DiffKind.Value(f"DIFF_KIND_{kind.name}")


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
        files=[pb.DataSetFile(**{k: v for k, v in vars(file).items() if k != "home"}) for file in found.files],
    )


def add_rows(rows: Iterable[Mapping[str, Any]], answer: Any) -> None:
    """Puts rows of JSON values, none of them nested, into an answer: in place, because a copy costs as much again.

    Takes milliseconds for a thousand: call it beside the event loop.
    """
    for row in rows:
        _fill(answer.rows.add(), row)


def add_events(events: Iterable[Mapping[str, Any]], answer: pb.ExportLineageResponse) -> None:
    """Puts events of OpenLineage into an answer. Takes milliseconds for a hundred: call it beside the event loop."""
    for event in events:
        answer.events.add().update(event)


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
