"""Serialised records: blocks of many in segments, single ones in the index."""

import lzma
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

import orjson

from services.kit.telemetry.columns import unpacked
from services.logs.domain import Record
from services.logs.tables import Kept, Table

_FIELDS = len(Record._fields)
_XZ = b"\xfd7zXZ\0"  # magic bytes, with which no zlib stream begins
# A window of 4 MiB, which takes ten times as much memory. Frames have a checksum already.
_FAR = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 4 * 2**20, "pb": 0}]


def pack(records: Sequence[Kept]) -> bytes:
    """Many records as one compressed block."""
    return zlib.compress(orjson.dumps([_to_json(one) for one in records]), 1)


def repack(records: Sequence[Kept], length: int) -> bytes:
    """Some of a block's records as a block of the same length, padded with zeros. Raises ValueError if it is too short.

    Fewer records may need more bytes: zlib finds repetitions within 32 KiB only, and what lay between two of them may
    be gone. XZ has a larger window.
    """
    plain = orjson.dumps([_to_json(one) for one in records])
    for level in (1, 6, 9):
        if len(block := zlib.compress(plain, level)) <= length:
            return block.ljust(length, b"\0")
    if len(block := lzma.compress(plain, check=lzma.CHECK_NONE, filters=_FAR)) <= length:
        return block.ljust(length, b"\0")
    raise ValueError(f"records do not fit into {length} bytes")


def unpack(block: bytes) -> list[Kept]:
    """The records of a block."""
    plain = lzma.LZMADecompressor().decompress(block) if block.startswith(_XZ) else zlib.decompress(block)
    return [_from_json(one) for one in orjson.loads(plain)]


def _to_json(one: Kept) -> Any:
    if isinstance(one, Record):
        return to_row(one)
    return {"like": to_row(one.like), "first": one.first, "columns": b64encode(one.columns.packed()).decode()}


def _from_json(found: Any) -> Kept:
    if isinstance(found, list):
        return from_row(found)
    return Table(from_row(found["like"]), found["first"], unpacked(b64decode(found["columns"])))


def to_row(record: Record) -> list[Any]:
    """A record as a list, in the order of its fields. New fields go to the end, so that old blocks stay readable."""
    row = list[Any](record)
    row[-2] = dict(record.attributes)
    row[-1] = b64encode(record.scores).decode()
    return row


def from_row(row: list[Any]) -> Record:
    """The record of such a list."""
    return Record(*row[:_FIELDS])._replace(scores=b64decode(row[-1]))


def dumps(one: Kept) -> bytes:
    """Serialises a record or a table, without its scores."""
    if isinstance(one, Table):
        bare = one.columns._replace(scores=(b"",) * one.size)
        return orjson.dumps(_to_json(Table(one.like, one.first, bare)))
    row = list[Any](one)
    row[-2], row[-1] = dict(one.attributes), ""
    return orjson.dumps(row)


def loads(data: bytes) -> Kept:
    """Parses what `dumps` has made."""
    return _from_json(orjson.loads(data))
