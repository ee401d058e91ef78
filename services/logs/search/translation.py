"""Translates a query's tree for the index. The scope is added here to the parsed tree, never to the text."""

import re
from typing import Any

from services.kit.auth import Scope
from services.logs.search.documents import AS_REQUEST, SPLITS, TABLE, Halves, dashed, halves, halves_from, term
from services.logs.search.domain import All, And, Field, Not, Or, Query, Range, Words
from services.logs.search.domain.query import sortable

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_DIGITS = "[0-9a-f]*"
_ANY = r"(.|\n)*"


class Translation:
    """Translates queries for single records, in one schema."""

    def __init__(self, schema: Any) -> None:
        import tantivy

        self.opposite: Translation = self  # translates what is negated

        self._schema, self._query = schema, tantivy.Query
        self._must, self._not, self._should = tantivy.Occur.Must, tantivy.Occur.MustNot, tantivy.Occur.Should
        self._integer, self._float = tantivy.FieldType.Integer, tantivy.FieldType.Float

    def within(self, scope: Scope, query: Query, low: int | None, high: int | None) -> Any:
        """Records of a scope that match, with sort keys from `low` to before `high`."""
        parts = [(self._must, self._term("scope", f"{scope.tenant}/{scope.project}")), self._shape()]
        parts += [(self._must, keys) for keys in self._keys(low, high)]
        if not isinstance(query, All):
            parts.append((self._must, self._of(query)))
        return self._query.boolean_query(parts)

    def either(self, *queries: Any) -> Any:
        """What any of these queries finds."""
        return self._query.boolean_query([(self._should, each) for each in queries])

    def but(self, query: Any, other: Any) -> Any:
        """What one query finds and the other does not."""
        return self._query.boolean_query([(self._must, query), (self._not, other)])

    def _shape(self) -> tuple[Any, Any]:
        return self._not, self._term("shape", TABLE)

    def _keys(self, low: int | None, high: int | None) -> list[Any]:
        return self._ranges(("key", low, high))

    def _ranges(self, *wanted: tuple[str, int | None, int | None]) -> list[Any]:
        """Ranges of fields, from one bound to before the other; none for a field without bounds."""
        return [
            self._query.range_query(self._schema, field, self._integer, low, high, True, high is None)
            for field, low, high in wanted
            if low is not None or high is not None
        ]

    def of_tenant(self, tenant: str) -> Any:
        """All documents of a tenant."""
        return self._query.regex_query(self._schema, "terms", term("scope", f"{_escaped(tenant)}/.*"))

    def since(self, sequence: int) -> Any:
        """Documents from a number on."""
        return self._query.range_query(self._schema, "sequence", self._integer, sequence, None)

    def _term(self, field: str, value: str) -> Any:
        if field in SPLITS:
            return self._query.term_query(self._schema, field, value, index_option="basic")
        return self._query.term_query(self._schema, "terms", term(field, value), index_option="basic")

    def _of(self, query: Query) -> Any:
        match query:
            case Words():
                return self._words(query)
            case Field():
                return self._field(query)
            case Range():
                return self._range(query)
            case Not():
                return self._query.boolean_query(
                    [(self._must, self._query.all_query()), (self._not, self.opposite._of(query.query))]
                )
            case And():
                return self._query.boolean_query([(self._must, self._of(each)) for each in query.queries])
            case Or():
                return self._query.boolean_query([(self._should, self._of(each)) for each in query.queries])
            case All():
                return self._query.all_query()

    def _words(self, query: Words) -> Any:
        if query.prefix:
            return self._query.regex_query(self._schema, "text", f"{query.words[0]}.*")
        if len(query.words) == 1:
            return self._query.term_query(self._schema, "text", query.words[0])
        return self._query.phrase_query(self._schema, "text", list(query.words))

    def _field(self, query: Field) -> Any:
        if query.name == "request_id":
            return self._either(self._text(query), self._request(query.value, query.prefix))
        if query.name == "trace_id":
            if AS_REQUEST in query.value:
                return self._query.empty_query()
            named = self._request(dashed(query.value), query.prefix)
            both = [(self._must, self._term("trace_id", AS_REQUEST)), (self._must, named)]
            return self._either(self._text(query), self._query.boolean_query(both) if named else None)
        return self._text(query)

    def _either(self, one: Any, other: Any | None) -> Any:
        return self._query.boolean_query([(self._should, one), (self._should, other)]) if other else one

    def _request(self, value: str, prefix: bool) -> Any | None:
        """Request ids that are stored as numbers; None when the value can be none of them."""
        ends = halves_from(value) if prefix else (found, found) if (found := halves(value)) else None
        if not ends:
            return None
        low, high = ends
        same = low.high == high.high
        first, last = (low, high) if same else (Halves(low.high, -(2**63)), Halves(high.high, 2**63 - 1))
        return self._query.boolean_query(
            [
                (self._must, self._between("request_high", first.high, last.high)),
                (self._must, self._between("request_low", first.low, last.low)),
            ]
        )

    def _between(self, field: str, low: int, high: int) -> Any:
        return self._query.range_query(self._schema, field, self._integer, low, high)

    def _text(self, query: Field) -> Any:
        if not query.prefix:
            return self._term(query.name, query.value)
        own = query.name in SPLITS
        field, value = (query.name, query.value) if own else ("terms", term(query.name, query.value))
        return self._query.regex_query(self._schema, field, _escaped(value) + _ANY)

    def _range(self, query: Range) -> Any:
        if query.name == "duration_ms":
            return self._duration(query)
        low = 0 if query.low is None else int(sortable(query.low), 16) + (not query.with_low)
        high = 2**64 - 1 if query.high is None else int(sortable(query.high), 16) - (not query.with_high)
        if low > high:
            return self._query.empty_query()
        name = _escaped(term(f"#{query.name}", ""))
        return self._query.regex_query(self._schema, "terms", f"{name}{between(f'{low:016x}', f'{high:016x}')}")

    def _duration(self, query: Range) -> Any:
        if query.low is None and query.high is None:
            return self._query.exists_query("duration_ms")
        low, high = (
            None if bound is None else bound + 0.0 for bound in (query.low, query.high)
        )  # -0.0 becomes 0.0, as in the index
        with_low, with_high = low is None or query.with_low, high is None or query.with_high
        return self._query.range_query(self._schema, "duration_ms", self._float, low, high, with_low, with_high)


def _escaped(text: str) -> str:
    return _PUNCTUATION.sub(r"\\\1", text)


def between(low: str, high: str) -> str:
    """A regular expression for the hex strings of one length from `low` to `high`: a range over terms."""
    if low == high:
        return low
    if set(low) == {"0"} and set(high) == {"f"}:
        return _DIGITS  # the length is not repeated, as terms end here: it would make the expression large
    if low[0] == high[0]:
        return low[0] + between(low[1:], high[1:])
    rest = len(low) - 1
    found = [low[0] + between(low[1:], "f" * rest), high[0] + between("0" * rest, high[1:])]
    if middle := "0123456789abcdef"[int(low[0], 16) + 1 : int(high[0], 16)]:
        found.append(f"[{middle}]{_DIGITS}")
    return f"({'|'.join(found)})"
