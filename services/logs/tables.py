"""Predictions that are alike: one record says what all are, columns say what each has of its own.

They are kept, found and followed together, and are records again for whoever asks for one.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.kit.telemetry.columns import Columns
from services.logs.domain import Record, bounded

_LEAST = 2  # from which on a table costs less


@dataclass(frozen=True, slots=True)
class Table:
    """Predictions of one second, with as many rows each, whose ids are the house's (UUIDs of version 7) of one minute.

    Their numbers follow each other, as do those in their ids.
    """

    like: Record  # its id is what theirs begin with
    first: int  # number of the first among what its event brought
    columns: Columns

    @property
    def size(self) -> int:
        """How many they are."""
        return self.columns.size

    def one(self, place: int) -> Record:
        """One of them, by its place."""
        columns = self.columns
        name = self.request_id(place)
        return self.like._replace(
            record=f"{self.like.record}{self.first + place:08x}",
            time_ns=columns.times[place],
            request_id=name,
            trace_id=name.replace("-", ""),
            span_id=columns.spans[8 * place : 8 * place + 8].hex(),
            duration_ms=columns.durations[place],
            scores=columns.scores[place],
        )

    def request_id(self, place: int) -> str:
        """That of one of them."""
        digits = self.columns.ids[16 * place : 16 * place + 16].hex()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def records(self) -> list[Record]:
        """All of them."""
        return [self.one(place) for place in range(self.columns.size)]


Kept = Record | Table


def size(one: Kept) -> int:
    """How many records it is."""
    return one.columns.size if isinstance(one, Table) else 1


def about(one: Kept) -> Record:
    """What says whose it is, and all else that its records have in common."""
    return one.like if isinstance(one, Table) else one


def whose(one: Kept) -> str:
    """The tenant of a record, or of a table of them."""
    return about(one).tenant


def single(given: Iterable[Record | Table]) -> Iterator[Record]:
    """Each record by itself."""
    for one in given:
        if isinstance(one, Table):
            yield from one.records()
        else:
            yield one


def parted(like: Record, first: int, columns: Columns) -> list[Record | Table]:
    """Predictions as tables, and those that fit into none one by one, numbered from `first` on."""
    if _plain(columns):
        return [_table(like, first, columns)]
    groups: dict[tuple[int, ...], list[int]] = {}
    for place in range(columns.size):
        groups.setdefault(_group(columns, place), []).append(place)
    made: list[Record | Table] = []
    for group, places in groups.items():
        table = _table(like, first, columns.at(places))
        first += len(places)
        alone = len(group) == 1 or len(places) < _LEAST
        made += map(_finite, table.records()) if alone else [table]
    return made


def _table(like: Record, first: int, columns: Columns) -> Table:
    attributes = bounded({**like.attributes, "rows": columns.rows[0]})
    return Table(like._replace(attributes=attributes), first, columns)


def _finite(one: Record) -> Record:
    return one if one.duration_ms is None or math.isfinite(one.duration_ms) else one._replace(duration_ms=None)


def _plain(columns: Columns) -> bool:
    """Whether all are of one group, as nearly always."""
    if columns.size < _LEAST or len(set(columns.rows)) > 1 or not all(map(math.isfinite, columns.durations)):
        return False
    ids = columns.ids
    if not all(version >> 4 == 7 for version in set(ids[6::16])) or max(ids[::16]) >> 7:
        return False
    moments = [ids[at : at + 6] for at in range(0, len(ids), 16)]
    return minute(min(moments)) == minute(max(moments)) and _second(min(columns.times)) == _second(max(columns.times))


def minute(moment: bytes) -> int:
    """Which one an id is of, by what it begins with: milliseconds in six bytes."""
    return int.from_bytes(moment, "big") // 60_000


def _second(time_ns: int) -> int:
    return time_ns // 10**9


def _group(columns: Columns, place: int) -> tuple[int, ...]:
    """What those of a table have in common; of one that fits into none how many rows it has."""
    own, rows = columns.ids[16 * place : 16 * place + 16], columns.rows[place]
    if own[6] >> 4 != 7 or own[0] >> 7 or not math.isfinite(columns.durations[place]):
        return (rows,)
    return rows, _second(columns.times[place]), minute(own[:6])
