"""Times between Python and the wire: always UTC."""

import random
import time
from datetime import UTC, datetime
from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp


def to_wire(at: datetime | None) -> Timestamp | None:
    """A protobuf timestamp, or None for none."""
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def from_wire(stamp: Timestamp | None) -> datetime | None:
    """A UTC datetime, or None when the field is not set."""
    if stamp is None or not (stamp.seconds or stamp.nanos):
        return None
    return stamp.ToDatetime(tzinfo=UTC)


_last = 0


def uuid7() -> str:
    """A UUID that sorts by the time it was made at (RFC 9562, version 7). It tells things apart; it is no secret.

    Those of one process sort in the order in which they were made: 12 bits behind the milliseconds are a finer time.
    """
    global _last
    # Every request has one, so this asks the system for the time only. `random` seeds itself anew in a fork.
    stamp = time.time_ns() * 4096 // 1_000_000
    if stamp <= _last:
        stamp = _last + 1
    _last = stamp
    rest = (1 << 63 | random.getrandbits(62)).to_bytes(8).hex()
    return f"{_beginning(stamp >> 12)}{stamp & 0xFFF:03x}-{rest[:4]}-{rest[4:]}"


@lru_cache(maxsize=4)
def _beginning(milliseconds: int) -> str:
    text = f"{milliseconds & 0xFFFFFFFFFFFF:012x}"
    return f"{text[:8]}-{text[8:]}-7"
