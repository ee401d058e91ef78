"""Searching records in tables: which tables may match, and which of their records do."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.logs.domain import Record
from services.logs.encoding import dumps
from services.logs.search.documents import second_of, table_keys, table_of
from services.logs.search.domain import All, Query, matches, rest
from services.logs.search.translation_tables import translations
from services.logs.tables import Table

_AT_ONCE = 50  # tables that are fetched at first; then twice as many each time
Bounds = tuple[int | None, int | None]
Over = Callable[[], bool]  # whether the caller has gone


def never() -> bool:
    """The caller waits as long as it takes."""
    return False


class Hit(NamedTuple):
    """A record that was found: its sort key, and what loads it, with its size in bytes."""

    key: int
    load: Callable[[], tuple[int, Record]]


class Part(NamedTuple):
    """Matching records of one table."""

    second: int
    like: Record
    durations: Sequence[float]


class Tabled:
    """Queries of the tables of one index.

    Each table is read by itself, and there may be millions, so a query raises cancelled as soon as it is over.
    """

    def __init__(self, schema: Any) -> None:
        self._some, self._every = translations(schema)

    def newest(
        self, searcher: Any, scope: Scope, query: Query, bounds: Bounds, hits: list[Hit], limit: int, over: Over
    ) -> list[Hit]:
        """Merges hits with the matching records in tables; the newest `limit`."""
        asked = self._some.within(scope, query, *bounds)
        for key, source in _sources(searcher, asked, over):
            if len(hits) >= limit and key < hits[limit - 1].key:
                break
            sequence, table = table_of(source)
            load, size = partial(_load, table), len(dumps(table.like))
            places = [Hit(key, partial(load, size, at)) for key, at in _places(query, sequence, table, bounds)]
            hits = sorted(hits + places, key=lambda hit: -hit.key)[:limit]
        return hits[:limit]

    def every(self, scope: Scope, query: Query, bounds: Bounds) -> Any:
        """A query for the tables all of whose records match."""
        return self._every.within(scope, query, *bounds)

    def partly(self, searcher: Any, scope: Scope, query: Query, bounds: Bounds, over: Over) -> Iterator[Part]:
        """The matching records of tables that only some records of match."""
        asked = self._some.but(self._some.within(scope, query, *bounds), self.every(scope, query, bounds))
        for _, source in _sources(searcher, asked, over):
            sequence, table = table_of(source)
            if found := _places(query, sequence, table, bounds):
                durations = array("d", [table.columns.durations[place] for _, place in found])
                yield Part(second_of(found[0][0]), table.like, durations)


def _sources(searcher: Any, asked: Any, over: Over) -> Iterator[tuple[int, bytes]]:
    """Sources of tables with the sort keys of their newest records, newest first."""
    import tantivy

    seen, more = 0, _AT_ONCE
    while True:
        newest = {"order_by_field": "key", "order": tantivy.Order.Desc}
        hits = searcher.search(asked, limit=more, count=False, offset=seen, **newest).hits
        for key, address in hits:
            if over():
                raise Failure(Code.CANCELLED, "the caller has gone")
            yield key, searcher.doc(address).get_first("source")
        if len(hits) < more:
            return
        seen, more = seen + more, 2 * more


def _places(query: Query, sequence: int, table: Table, bounds: Bounds) -> list[tuple[int, int]]:
    """The sort keys and places of a table's matching records."""
    (low, high), asked = bounds, rest(query, table.like)
    keys = enumerate(table_keys(sequence, table))
    inside = [(key, at) for at, key in keys if (low is None or low <= key) and (high is None or key < high)]
    return inside if asked == All() else [(key, at) for key, at in inside if matches(asked, _bare(table, at))]


def _bare(table: Table, place: int) -> Record:
    """The record at a place, with only the fields that queries look at."""
    named, duration = table.request_id(place), table.columns.durations[place]
    return table.like._replace(request_id=named, trace_id=named.replace("-", ""), duration_ms=duration)


def _load(table: Table, size: int, place: int) -> tuple[int, Record]:
    return size, table.one(place)
