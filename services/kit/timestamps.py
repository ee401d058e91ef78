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
    """A UUID that sorts by its time (RFC 9562, version 7). It is unique, but not secret.

    Those of one process sort in the order of their creation: 12 bits after the milliseconds are a finer time.
    """
    global _last
    # Every request has one, so this makes no system call but for the time. `random` is seeded anew in a fork.
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
