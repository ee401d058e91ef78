"""Predictions that differ in little, as columns: what they have in common is said once, the rest is arrays.

A record of its own costs the gateway and the log centre more, each, than the prediction's way through both.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from services.kit.telemetry.records import Record

COLUMNS = "aimass.columns"  # the attribute that holds them
# Of a prediction's attributes: those that a table has once, and all.
_SHARED = ("principal", "model", "version", "status")
_ALL = {*_SHARED, "request_id", "duration_ms", "rows", "scores"}
_LEAST = 2  # predictions from which it is worth it
_HEAD = struct.Struct("<I")
_WIDTH = 16 + 8 + 8 + 8 + 4 + 4  # bytes of one, without its scores


class Columns(NamedTuple):
    """What predictions have of their own, each at one place of all columns."""

    ids: bytes  # 16 of each: the request's UUID, whose digits are the trace's id
    spans: bytes  # 8 of each
    times: Sequence[int]  # nanoseconds
    durations: Sequence[float]  # milliseconds
    rows: Sequence[int]
    scores: Sequence[bytes]

    @property
    def size(self) -> int:
        """How many predictions."""
        return len(self.times)

    def at(self, places: Sequence[int]) -> "Columns":
        """Those of some places."""
        return Columns(
            b"".join([self.ids[16 * place : 16 * place + 16] for place in places]),
            b"".join([self.spans[8 * place : 8 * place + 8] for place in places]),
            *([column[place] for place in places] for column in self[2:]),  # type: ignore[arg-type]
        )

    def packed(self) -> bytes:
        """As `unpacked` takes them. Raises struct.error for what is no number, or too large a one."""
        count = len(self.times)
        return b"".join(
            [
                _HEAD.pack(count),
                self.ids,
                self.spans,
                struct.pack(f"<{count}Q", *self.times),
                struct.pack(f"<{count}d", *self.durations),
                struct.pack(f"<{count}I", *self.rows),
                struct.pack(f"<{count}I", *map(len, self.scores)),
                *self.scores,
            ]
        )


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
    try:
        return Columns(
            bytes.fromhex(digits),
            bytes.fromhex("".join([record.trace[36:52] for record in group])),
            [record.time_ns for record in group],
            *([one[name] for one in told] for name in ("duration_ms", "rows", "scores")),
        ).packed()
    except (struct.error, TypeError, ValueError):
        return b""  # what nobody foresaw is told one by one


def unpacked(columns: bytes) -> Columns:
    """What is in columns. Raises ValueError for what is none."""
    if len(columns) < _HEAD.size:
        raise ValueError("columns end before they begin")
    (count,) = _HEAD.unpack_from(columns)
    if len(columns) < _HEAD.size + count * _WIDTH:
        raise ValueError("columns are shorter than they say")
    at = _HEAD.size
    ids, spans = columns[at : at + 16 * count], columns[at + 16 * count : at + 24 * count]
    numbers = struct.unpack_from(f"<{count}Q{count}d{count}I{count}I", columns, at + 24 * count)
    times, durations, many, sizes = (numbers[part * count : (part + 1) * count] for part in range(4))
    at += count * _WIDTH
    ends = list(accumulate(sizes, initial=at))
    if len(columns) != ends[-1]:
        raise ValueError("columns have other scores than they say")
    return Columns(ids, spans, times, durations, many, [columns[a:b] for a, b in pairwise(ends)])
