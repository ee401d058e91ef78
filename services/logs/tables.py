"""Tables of similar predictions: one record with what they have in common, and columns with what differs.

A table is kept, indexed and followed as one; whoever asks for records gets them one by one.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.kit.telemetry.columns import Columns
from services.logs.domain import Record, bounded

_LEAST = 2  # predictions of a table


@dataclass(frozen=True, slots=True)
class Table:
    """Predictions of one second, with the same number of rows, whose ids are UUIDs of version 7 of one minute.

    They have consecutive numbers, in the log and in their record ids.
    """

    like: Record  # its id is the prefix of their record ids
    first: int  # index of the first one among the records of its event
    columns: Columns

    @property
    def size(self) -> int:
        """The number of predictions."""
        return self.columns.size

    def one(self, place: int) -> Record:
        """The record at a place."""
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
        """The request id at a place."""
        digits = self.columns.ids[16 * place : 16 * place + 16].hex()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def records(self) -> list[Record]:
        """All records."""
        return [self.one(place) for place in range(self.columns.size)]


Kept = Record | Table  # what the log keeps: a record, or a table of several


def size(one: Kept) -> int:
    """The number of records."""
    return one.columns.size if isinstance(one, Table) else 1


def shared_fields(one: Kept) -> Record:
    """The record itself, or what the records of a table have in common, such as their scope."""
    return one.like if isinstance(one, Table) else one


def tenant_of(one: Kept) -> str:
    """The tenant of a record, or of a table of them."""
    return shared_fields(one).tenant


def records_of(given: Iterable[Kept]) -> Iterator[Record]:
    """Yields each record, those of tables as well."""
    for one in given:
        if isinstance(one, Table):
            yield from one.records()
        else:
            yield one


def grouped(like: Record, first: int, columns: Columns) -> list[Kept]:
    """Groups predictions into tables, and single records for those that fit into none; numbered from `first` on."""
    if _plain(columns):
        return [_table(like, first, columns)]
    groups: dict[tuple[int, ...], list[int]] = {}
    for place in range(columns.size):
        groups.setdefault(_group(columns, place), []).append(place)
    made: list[Kept] = []
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
    """Whether all predictions are of one group, as nearly always."""
    if columns.size < _LEAST or len(set(columns.rows)) > 1 or not all(map(math.isfinite, columns.durations)):
        return False
    ids = columns.ids
    if not all(version >> 4 == 7 for version in set(ids[6::16])) or max(ids[::16]) >> 7:
        return False
    moments = [ids[at : at + 6] for at in range(0, len(ids), 16)]
    return minute(min(moments)) == minute(max(moments)) and _second(min(columns.times)) == _second(max(columns.times))


def minute(moment: bytes) -> int:
    """The minute of an id, by its first six bytes, which are milliseconds."""
    return int.from_bytes(moment, "big") // 60_000


def _second(time_ns: int) -> int:
    return time_ns // 10**9


def _group(columns: Columns, place: int) -> tuple[int, ...]:
    """The key that predictions of one table share; a key of one element for a prediction that fits into none."""
    own, rows = columns.ids[16 * place : 16 * place + 16], columns.rows[place]
    if own[6] >> 4 != 7 or own[0] >> 7 or not math.isfinite(columns.durations[place]):
        return (rows,)
    return rows, _second(columns.times[place]), minute(own[:6])
