"""Translates a query's tree for the tables in the index."""

from typing import Any

from services.logs.search.documents import TABLE, halves, halves_from
from services.logs.search.domain import Range
from services.logs.search.translation import Translation

_LEAST, _MOST = -(2**63), 2**63 - 1  # of the lower half of an id


class TableTranslation(Translation):
    """Translates queries for tables all of whose records match (`sure`), or for all tables that may have a match.

    A negated query may match in a table unless all its records match the query, so each is the other's opposite.
    """

    def __init__(self, schema: Any, sure: bool) -> None:
        super().__init__(schema)
        self._sure = sure

    def _shape(self) -> tuple[Any, Any]:
        return self._must, self._term("shape", TABLE)

    def _keys(self, low: int | None, high: int | None) -> list[Any]:
        if self._sure:
            return self._ranges(("key_first", low, None), ("key", None, high))
        return self._ranges(("key", low, None), ("key_first", None, high))

    def _request(self, value: str, prefix: bool) -> Any | None:
        ends = halves_from(value) if prefix else (found, found) if (found := halves(value)) else None
        if not ends:
            return None
        low, high = ends
        if not self._sure:
            wanted = self._ranges(("request_last", low.high, None), ("request_first", None, high.high + 1))
        elif (low.low, high.low) == (_LEAST, _MOST):
            wanted = self._ranges(("request_first", low.high, None), ("request_last", None, high.high + 1))
        else:
            return self._query.empty_query()
        return self._query.boolean_query([(self._must, each) for each in wanted])

    def _duration(self, query: Range) -> Any:
        if not self._sure:
            return super()._duration(query)
        outside = [Range(query.name, None, query.low, with_high=not query.with_low)] if query.low is not None else []
        if query.high is not None:
            outside.append(Range(query.name, query.high, None, with_low=not query.with_high))
        parts = [(self._must, self._query.all_query())]
        return self._query.boolean_query(
            parts + [(self._not, super(TableTranslation, self)._duration(one)) for one in outside]
        )


def translations(schema: Any) -> tuple[TableTranslation, TableTranslation]:
    """The translations for tables that may have a match, and for those all of whose records match."""
    some, every = TableTranslation(schema, sure=False), TableTranslation(schema, sure=True)
    some.opposite, every.opposite = every, some
    return some, every
