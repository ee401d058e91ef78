"""Clusterings between the domain and the wire."""

from collections.abc import Mapping
from typing import Any

from aimass.v1 import series_pb2 as pb
from services.data.series_clusters.domain import Wanted


def wanted_from_wire(request: pb.ClusterSeriesRequest) -> Wanted:
    """A clustering, not checked yet."""
    return Wanted(
        request.output_data_set,
        request.data_set,
        request.data_set_version,
        tuple(request.keys),
        request.time,
        request.column,
        request.rows,
        request.clusters,
        request.band,
        request.scaled,
        request.seed,
    )


def clusters_to_wire(output: str, version: int, found: Mapping[str, Any]) -> pb.SeriesClusters:
    """What a clustering came to, as its child said it."""
    clusters = [pb.SeriesCluster(**cluster) for cluster in found["clusters"]]
    plain = {name: found[name] for name in ("series", "left_out", "rows_without_time", "chosen_from", "silhouette")}
    return pb.SeriesClusters(output_data_set=output, output_version=version, clusters=clusters, **plain)
