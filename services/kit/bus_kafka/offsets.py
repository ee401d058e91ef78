"""Tells Kafka how far a group has come."""

from collections.abc import Mapping
from typing import Any

from kafka import TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from kafka.structs import OffsetAndMetadata

from services.kit.errors import Unavailable

_PATIENCE = 3000  # milliseconds
_MOVED = (
    CommitFailedError, FencedInstanceIdError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError,
)  # fmt: skip


def commit(consumer: Any, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """What is committed: not what others have been given meanwhile. Raises unavailable."""
    mine = {place: end for place, end in ends.items() if place in consumer.assignment()}
    offsets = {place: OffsetAndMetadata(end, "", -1) for place, end in mine.items()}
    try:
        consumer.commit(offsets, timeout_ms=_PATIENCE)
    except _MOVED:
        return {}
    except KafkaError as error:
        raise Unavailable(f"kafka does not take offsets: {error or type(error).__name__}") from None
    return mine
