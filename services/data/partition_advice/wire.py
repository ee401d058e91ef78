"""Advice between the domain and the wire."""

from aimass.v1 import partitions_pb2 as pb
from services.data.datasets.wire_layouts import layout_to_wire
from services.data.partition_advice.domain import Advice, Advising, Choice, Forecast


def advice_to_wire(asked: Advising, found: Advice) -> pb.PartitionAdvice:
    """What an operation ends with."""
    now, then = found.current, found.choice.forecast
    return pb.PartitionAdvice(
        data_set=asked.data_set,
        data_set_version=asked.version,
        partitioning=layout_to_wire(found.choice.layout),
        choice=_choice(found.choice),
        reasons=found.reasons,
        current=_forecast(now),
        undivided=_forecast(found.undivided),
        files_saved=now.files_read - then.files_read,
        bytes_saved=now.bytes_read - then.bytes_read,
        seconds_saved=now.seconds - then.seconds,
        alternatives=[_choice(choice) for choice in found.alternatives],
        queries=found.queries,
        tried=found.tried,
    )


def _choice(choice: Choice) -> pb.PartitionChoice:
    return pb.PartitionChoice(
        partitioning=layout_to_wire(choice.layout),
        forecast=_forecast(choice.forecast),
        skew=choice.skew,
        largest_rows=choice.largest_rows,
        largest_bytes=choice.largest_bytes,
    )


def _forecast(forecast: Forecast) -> pb.PartitionForecast:
    return pb.PartitionForecast(**vars(forecast))
