"""Joins of features between the domain and the wire."""

from collections.abc import Iterable, Sequence

from aimass.v1 import feature_views_pb2 as pb
from services.data.feature_joins.domain import Wanted


def wanted_from_wire(views: Iterable[pb.JoinedView]) -> list[Wanted]:
    """Views that are asked for, not checked yet."""
    return [
        Wanted(one.feature_view, one.version, tuple(one.keys), tuple(one.features), one.prefix, one.data_set_version)
        for one in views
    ]


def join_to_wire(output: str, version: int, rows: int, found: Sequence[int]) -> pb.FeatureJoin:
    """What a join came to."""
    return pb.FeatureJoin(output=output, version=version, rows=rows, found=found)
