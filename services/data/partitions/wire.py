"""Partitions between the domain and the wire."""

from aimass.v1 import partitions_pb2 as pb
from services.data.datasets.wire_layouts import layout_to_wire
from services.data.partitions.domain import Division


def division_to_wire(found: Division, token: str) -> pb.ListPartitionsResponse:
    """A page of the partitions of a version."""
    return pb.ListPartitionsResponse(
        partitions=[pb.Partition(**vars(partition)) for partition in found.partitions],
        next_page_token=token,
        partitioning=layout_to_wire(found.layout),
        count=found.count,
        skew=found.skew,
    )
