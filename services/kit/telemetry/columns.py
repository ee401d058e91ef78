"""Predictions that differ in little, as columns: what they have in common is said once, the rest is arrays.

A record of its own costs the gateway and the log centre more, each, than the prediction's way through both.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from services.kit.telemetry.records import Record

COLUMNS = "aimass.columns"  # the attribute that holds them
# Of a prediction's attributes: those that a table has once, and all.
_SHARED = ("principal", "model", "version", "status")
_ALL = {*_SHARED, "request_id", "duration_ms", "rows", "scores"}
_LEAST = 2  # predictions from which it is worth it
_HEAD = struct.Struct("<I")
_WIDTH = 16 + 8 + 8 + 8 + 4 + 4  # bytes of one, without its scores


class Row(NamedTuple):
    """What one of them has of its own."""

    request_id: str  # a UUID; its digits are the trace's id
    span_id: str
    time_ns: int
    duration_ms: float
    rows: int
    scores: bytes


class Table(NamedTuple):
    """Some predictions: the first, and its attributes that all have, beside the columns."""

    first: Record
    shared: dict[str, Any]
    columns: bytes


def tables(batch: Sequence[Record]) -> tuple[list[Table], list[Record]]:
    """Predictions of a batch as tables, and the records that are told one by one."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    rest: list[Record] = []
    for record in batch:
        told = record.attributes
        if record.kind != "prediction" or record.text or told.keys() != _ALL:
            rest.append(record)
            continue
        about = (record.scope, record.name, record.service, record.severity)
        key = (*about, told["principal"], told["model"], told["version"], told["status"])
        groups.setdefault(key, []).append(record)
    made: list[Table] = []
    for group in groups.values():
        alike, columns = group, _columns(group)
        if not columns:  # one that is not so plain keeps no other from it
            alike = []
            for record in group:
                (alike if _columns([record]) else rest).append(record)
            columns = _columns(alike)
        if len(alike) >= _LEAST:
            shared = {name: alike[0].attributes[name] for name in _SHARED}
            made.append(Table(alike[0], shared, columns))
        else:
            rest += alike
    return made, rest


def _columns(group: Sequence[Record]) -> bytes:
    """Empty for those whose request has no UUID, or another trace than one that is called like it."""
    told, count = [record.attributes for record in group], len(group)
    names = "".join([one["request_id"] for one in told])
    digits = names.replace("-", "")
    if len(names) != 36 * count or any(names[at::36] != "-" * count for at in (8, 13, 18, 23)):
        return b""
    if len(digits) != 32 * count or digits != "".join([record.trace[3:35] for record in group]):
        return b""
    scores = [one["scores"] for one in told]
    try:
        return b"".join(
            [
                _HEAD.pack(count),
                bytes.fromhex(digits),
                bytes.fromhex("".join([record.trace[36:52] for record in group])),
                struct.pack(f"<{count}Q", *[record.time_ns for record in group]),
                struct.pack(f"<{count}d", *[one["duration_ms"] for one in told]),
                struct.pack(f"<{count}I", *[one["rows"] for one in told]),
                struct.pack(f"<{count}I", *map(len, scores)),
                *scores,
            ]
        )
    except (struct.error, TypeError, ValueError):
        return b""  # what nobody foresaw is told one by one


def rows(columns: bytes) -> list[Row]:
    """What is in columns. Raises ValueError for what is none."""
    if len(columns) < _HEAD.size:
        raise ValueError("columns end before they begin")
    (count,) = _HEAD.unpack_from(columns)
    if len(columns) < _HEAD.size + count * _WIDTH:
        raise ValueError("columns are shorter than they say")
    at = _HEAD.size
    ids, spans = columns[at : at + 16 * count].hex(), columns[at + 16 * count : at + 24 * count].hex()
    numbers = struct.unpack_from(f"<{count}Q{count}d{count}I{count}I", columns, at + 24 * count)
    times, durations, many, sizes = (numbers[part * count : (part + 1) * count] for part in range(4))
    at += count * _WIDTH
    if len(columns) != at + sum(sizes):
        raise ValueError("columns have other scores than they say")
    found: list[Row] = []
    for place, size in enumerate(sizes):
        digits = ids[32 * place : 32 * place + 32]
        name = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        span = spans[16 * place : 16 * place + 16]
        found.append(Row(name, span, times[place], durations[place], many[place], columns[at : at + size]))
        at += size
    return found
