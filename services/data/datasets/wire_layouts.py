"""Layouts between the domain and the wire."""

from aimass.v1 import partitions_pb2 as pb
from services.data.datasets.layouts import Layout, Strategy
from services.kit.errors import InvalidValue, Violation


def layout_to_wire(layout: Layout | None) -> pb.Partitioning | None:
    """How rows are divided; None where they are not."""
    if layout is None:
        return None
    return pb.Partitioning(
        strategy=pb.PartitionStrategy.Value(f"PARTITION_STRATEGY_{layout.strategy.name}"),
        fields=layout.fields,
        keys=[pb.PartitionKeys(keys=[pb.PartitionKey(values=key) for key in keys]) for keys in layout.keys],
        bounds=[pb.PartitionKey(values=bound) for bound in layout.bounds],
        count=layout.count,
    )


def layout_from_wire(asked: pb.Partitioning) -> Layout | None:
    """None for one without a strategy and fields. Raises invalid_value."""
    if asked == pb.Partitioning():
        return None
    if asked.strategy not in pb.PartitionStrategy.values()[1:]:
        rule = "must be a strategy, or nothing is set at all"
        raise InvalidValue(f"strategy {rule}", [Violation("/partitioning/strategy", rule)])
    name = pb.PartitionStrategy.Name(asked.strategy).removeprefix("PARTITION_STRATEGY_").lower()
    keys = tuple(tuple(tuple(key.values) for key in each.keys) for each in asked.keys)
    bounds = tuple(tuple(bound.values) for bound in asked.bounds)
    return Layout(Strategy(name), tuple(asked.fields), keys, bounds, asked.count)
