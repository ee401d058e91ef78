"""Offsets of a consumer: computing, seeking and committing them."""

from collections.abc import Iterable, Mapping
from typing import Any

from kafka import TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from kafka.structs import OffsetAndMetadata

from services.kit.event import Event

_PATIENCE = 3000  # milliseconds
_MOVED = (
    CommitFailedError, FencedInstanceIdError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError,
)  # fmt: skip


def ends(events: Iterable[Event]) -> dict[TopicPartition, int]:
    """The next offset of each partition after these events."""
    found: dict[TopicPartition, int] = {}
    for event in events:
        place = TopicPartition(event.topic, event.partition)
        found[place] = max(found.get(place, 0), event.offset + 1)
    return found


def seek(consumer: Any, places: Mapping[TopicPartition, int]) -> None:
    """Assigns partitions to a consumer without a group, to read on at these offsets."""
    consumer.assign(list(places))
    for place, offset in places.items():
        consumer.seek(place, offset)


def commit(consumer: Any, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Commits offsets of partitions that the consumer still has; returns those. Raises what the library raises."""
    mine = {place: end for place, end in ends.items() if place in consumer.assignment()}
    offsets = {place: OffsetAndMetadata(end, "", -1) for place, end in mine.items()}
    try:
        consumer.commit(offsets, timeout_ms=_PATIENCE)
    except _MOVED:
        return {}
    return mine
