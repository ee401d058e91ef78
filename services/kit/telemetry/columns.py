"""Similar predictions as columns: what they have in common once, the rest as arrays.

A record for each would cost the gateway, and the log centre as well, more than all else that they do for it.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from services.kit.telemetry.records import Record

COLUMNS = "aimass.columns"  # the attribute with the packed columns
# Attributes of a prediction: those that a table has once, and all.
_SHARED = ("principal", "model", "version", "status")
_ALL = {*_SHARED, "request_id", "duration_ms", "rows", "scores"}
_LEAST = 2  # predictions of a table
_HEAD = struct.Struct("<I")
_WIDTH = 16 + 8 + 8 + 8 + 4 + 4  # bytes of a prediction, without its scores


class Columns(NamedTuple):
    """The values that differ; a prediction has the same place in all columns."""

    ids: bytes  # 16 each: the request's UUID, whose digits are the trace id
    spans: bytes  # 8 each: span ids
    times: Sequence[int]  # nanoseconds
    durations: Sequence[float]  # milliseconds
    rows: Sequence[int]
    scores: Sequence[bytes]

    @property
    def size(self) -> int:
        """The number of predictions."""
        return len(self.times)

    def at(self, places: Sequence[int]) -> "Columns":
        """The columns of some places only."""
        return Columns(
            b"".join([self.ids[16 * place : 16 * place + 16] for place in places]),
            b"".join([self.spans[8 * place : 8 * place + 8] for place in places]),
            *([column[place] for place in places] for column in self[2:]),  # type: ignore[arg-type]
        )

    def packed(self) -> bytes:
        """Serialises the columns. Raises struct.error for a value that is no number or too large."""
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
    """Similar predictions: the first one, the attributes that all share, and the packed columns."""

    first: Record
    shared: dict[str, Any]
    columns: bytes


def tables(batch: Sequence[Record]) -> tuple[list[Table], list[Record]]:
    """The tables that can be made of a batch, and the records that fit into none."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    rest: list[Record] = []
    for record in batch:
        attributes = record.attributes
        if record.kind != "prediction" or record.text or attributes.keys() != _ALL:
            rest.append(record)
            continue
        about = (record.scope, record.name, record.service, record.severity)
        key = (*about, attributes["principal"], attributes["model"], attributes["version"], attributes["status"])
        groups.setdefault(key, []).append(record)
    made: list[Table] = []
    for group in groups.values():
        alike, columns = group, _columns(group)
        if not columns:  # one that does not fit must not keep the others out
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
    """The packed columns; empty unless each request id is a UUID, with the same digits as the trace id."""
    rows, count = [record.attributes for record in group], len(group)
    names = "".join([one["request_id"] for one in rows])
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
            *([one[name] for one in rows] for name in ("duration_ms", "rows", "scores")),
        ).packed()
    except (struct.error, TypeError, ValueError):
        return b""  # odd values: records of their own


def unpacked(columns: bytes) -> Columns:
    """Parses packed columns. Raises ValueError for anything else."""
    if len(columns) < _HEAD.size:
        raise ValueError("columns without a head")
    (count,) = _HEAD.unpack_from(columns)
    if len(columns) < _HEAD.size + count * _WIDTH:
        raise ValueError("columns are cut off")
    at = _HEAD.size
    ids, spans = columns[at : at + 16 * count], columns[at + 16 * count : at + 24 * count]
    numbers = struct.unpack_from(f"<{count}Q{count}d{count}I{count}I", columns, at + 24 * count)
    times, durations, many, sizes = (numbers[part * count : (part + 1) * count] for part in range(4))
    at += count * _WIDTH
    ends = list(accumulate(sizes, initial=at))
    if len(columns) != ends[-1]:
        raise ValueError("columns with other sizes of scores than bytes")
    return Columns(ids, spans, times, durations, many, [columns[a:b] for a, b in pairwise(ends)])
