"""Lineage as events of OpenLineage 2-0-2 (https://openlineage.io/spec): one for each version made of something."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from services.data.datasets.domain import DataSetVersion, Lineage, LineageNode
from services.kit.auth import Scope

_SPEC = "https://openlineage.io/spec"
_PRODUCER = "https://openlineage.io/producers/aimass"
_RUNS = UUID("6f1f4a3e-2b0e-5c1c-9a77-0d8a2c9e4b11")  # the name space of runs whose id is no UUID
# How a data set, a source and a feature set are called as data sets of OpenLineage.
_FOLDERS = {"data_set": "data-sets", "source": "sources", "feature_set": "feature-sets"}
_TYPE = {"processingType": "BATCH", "integration": "AIMASS"}
Json = dict[str, Any]


def made(found: Lineage) -> dict[LineageNode, list[LineageNode]]:
    """The nodes of a graph that were made of others, in its order, each with these: each is an event."""
    read = dict[LineageNode, list[LineageNode]]()
    for start, end in found.edges:
        read.setdefault(end, []).append(start)
    return {node: read[node] for node in found.nodes if node in read}


def event(
    scope: Scope,
    node: LineageNode,
    parents: Sequence[LineageNode],
    versions: Mapping[LineageNode, DataSetVersion],
    now: datetime,
) -> Json:
    """The end of the run that made a node. What has no version any more has no facets."""
    version = versions.get(node)
    kind, job = _job(node, parents)
    # A feature set keeps no time here: it was fitted after what it reads was there.
    read = [versions[parent].create_time for parent in parents if parent in versions]
    time = version.create_time if version else max(read, default=now)
    return {
        "eventType": "COMPLETE",
        "eventTime": time.isoformat().replace("+00:00", "Z"),
        "producer": _PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": _run_id(scope, node, version)},
        "job": {
            "namespace": _namespace(scope),
            "name": job,
            "facets": {
                "jobType": _facet("2-0-3", "JobTypeJobFacet", **_TYPE, jobType=kind),
            },
        },
        "inputs": [_data_set(scope, parent, versions) for parent in parents if parent.kind in _FOLDERS],
        "outputs": [_output(scope, node, versions)],
    }


def _job(node: LineageNode, parents: Sequence[LineageNode]) -> tuple[str, str]:
    """What kind of work made a node, and its name: the same for each run of it."""
    rule = next((parent.name for parent in parents if parent.kind == "rule"), "")
    if rule:
        return "EXTRACTION", f"rules/{rule}"
    if recipe := next((parent.name for parent in parents if parent.kind == "recipe"), ""):
        return "CLEANING", f"recipes/{recipe}"
    if node.kind == "feature_set":
        return "FITTING", f"feature-sets/{node.name}"
    if all(parent.kind == "data_set" and parent.name == node.name for parent in parents):
        return "ROLL_BACK", f"data-sets/{node.name}"
    return "PIPELINE", f"data-sets/{node.name}"


def _run_id(scope: Scope, node: LineageNode, version: DataSetVersion | None) -> str:
    """That of the run where it is a UUID, else one that is the same each time."""
    if version:
        try:
            return str(UUID(version.run))
        except ValueError:
            pass
    return str(uuid5(_RUNS, "/".join((*scope, node.kind, node.name, str(node.version)))))


def _namespace(scope: Scope) -> str:
    return f"aimass://{scope.tenant}/{scope.project}"


def _data_set(scope: Scope, node: LineageNode, versions: Mapping[LineageNode, DataSetVersion]) -> Json:
    facets: Json = {}
    if node.version:
        facets["version"] = _facet("1-0-1", "DatasetVersionDatasetFacet", datasetVersion=str(node.version))
    if version := versions.get(node):
        columns = [{"name": column.name, "type": column.type.value} for column in version.columns]
        facets["schema"] = _facet("1-1-1", "SchemaDatasetFacet", fields=columns)
    return {"namespace": _namespace(scope), "name": f"{_FOLDERS[node.kind]}/{node.name}", "facets": facets}


def _output(scope: Scope, node: LineageNode, versions: Mapping[LineageNode, DataSetVersion]) -> Json:
    output = _data_set(scope, node, versions)
    if version := versions.get(node):
        counts = {"rowCount": version.rows_added, "size": version.bytes}
        output["outputFacets"] = {"outputStatistics": _facet("1-0-2", "OutputStatisticsOutputDatasetFacet", **counts)}
    return output


def _facet(number: str, name: str, **values: Any) -> Json:
    return {"_producer": _PRODUCER, "_schemaURL": f"{_SPEC}/facets/{number}/{name}.json#/$defs/{name}", **values}
