"""Whether a record matches a query, for filters and tails. A test compares it with the index."""

from collections.abc import Sequence

from services.logs.domain import Record, text_of
from services.logs.search.domain.query import (
    ATTRIBUTES,
    All,
    And,
    Field,
    Not,
    Or,
    Query,
    Range,
    Words,
    number,
    words_of,
)

NOTHING = Not(All())
_OWN = ("request_id", "trace_id", "duration_ms")  # fields in which records of a table differ


def matches(query: Query, record: Record) -> bool:
    """Whether a record matches a query. Its scope is not checked here."""
    match query:
        case All():
            return True
        case Words():
            return _has(query, words_of(record.text))
        case Field():
            value = value_of(record, query.name)
            if value is None:
                return False
            return value.startswith(query.value) if query.prefix else value == query.value
        case Range():
            found = number_of(record, query.name)
            return found is not None and _within(query, found)
        case Not():
            return not matches(query.query, record)
        case And():
            return all(matches(each, record) for each in query.queries)
        case Or():
            return any(matches(each, record) for each in query.queries)


def rest(query: Query, like: Record) -> Query:
    """A query reduced by what all records of a table have in common: All, NOTHING, or what is left to check."""
    match query:
        case Field() | Range() if query.name in _OWN:
            return query
        case Not():
            inner = rest(query.query, like)
            return All() if inner == NOTHING else Not(inner)
        case And():
            parts = [part for each in query.queries if (part := rest(each, like)) != All()]
            return NOTHING if NOTHING in parts else _joined(And, parts, All())
        case Or():
            parts = [part for each in query.queries if (part := rest(each, like)) != NOTHING]
            return All() if All() in parts else _joined(Or, parts, NOTHING)
    return All() if matches(query, like) else NOTHING


def _joined(kind: type[And] | type[Or], parts: Sequence[Query], none: Query) -> Query:
    return kind(tuple(parts)) if len(parts) > 1 else parts[0] if parts else none


def _has(query: Words, words: list[str]) -> bool:
    wanted = list(query.words)
    if query.prefix:
        return any(word.startswith(wanted[0]) for word in words)
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1))


def _within(query: Range, value: float) -> bool:
    if query.low is not None and (value < query.low or (value == query.low and not query.with_low)):
        return False
    return not (query.high is not None and (value > query.high or (value == query.high and not query.with_high)))


def value_of(record: Record, name: str) -> str | None:
    """A field as text; None if it is empty."""
    if name.startswith(ATTRIBUTES):
        value = record.attributes.get(name.removeprefix(ATTRIBUTES))
        return None if value is None else text_of(value)
    return str(getattr(record, name)) or None


def number_of(record: Record, name: str) -> float | None:
    """A field as a number; None if it is empty or no number."""
    if name == "duration_ms":
        return record.duration_ms
    if name == "version":
        return float(record.version) if record.version else None
    text = value_of(record, name)
    return None if text is None else number(text)
