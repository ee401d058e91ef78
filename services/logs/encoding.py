"""Records as bytes: in segments many at once, in the index one at a time."""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

import orjson

from services.logs.domain import Record

_FIELDS = len(Record._fields)


def pack(records: Sequence[Record]) -> bytes:
    """Many records as one compressed block."""
    return zlib.compress(orjson.dumps([to_row(record) for record in records]), 1)


def unpack(block: bytes) -> list[Record]:
    """The records of a block."""
    return [from_row(row) for row in orjson.loads(zlib.decompress(block))]


def to_row(record: Record) -> list[Any]:
    """A record as a list in the order of its fields; later fields are added at the end, so old blocks stay readable."""
    row = list[Any](record)
    row[-2] = dict(record.attributes)
    row[-1] = b64encode(record.scores).decode()
    return row


def from_row(row: list[Any]) -> Record:
    """The record of a list."""
    return Record(*row[:_FIELDS])._replace(scores=b64decode(row[-1]))


def dumps(record: Record) -> bytes:
    """One record without its scores."""
    row = list[Any](record)
    row[-2], row[-1] = dict(record.attributes), ""
    return orjson.dumps(row)


def loads(data: bytes) -> Record:
    """The record of `dumps`."""
    return from_row(orjson.loads(data))
