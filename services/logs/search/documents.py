"""Records as documents of the index.

A term that only one record has costs more than the rest of its document, at each merge as well. So numbers, and ids
that are numbers, are columns, and queries for them are ranges.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from services.logs.domain import Record, text_of
from services.logs.encoding import dumps, loads
from services.logs.search.domain.query import number, sortable, words_of
from services.logs.tables import Table

SPLITS = ("kind", "severity", "service", "name", "model", "version", "status")
# The shape of documents that are tables: their numbers, except durations, are those of the first and last record.
TABLE = "table"
# Stands for a trace id that equals the request id; no query can contain it.
AS_REQUEST = "\0"
_TIES = 10  # bits of a key that distinguish records of one microsecond
_SHORT = 200  # characters of a text whose words are cached
_LAST = 2**52  # microseconds: year 2112
_UUID7 = re.compile(r"[0-7][0-9a-f]{7}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_LEAST, _MOST = "00000000-0000-7000-0000-000000000000", "7fffffff-ffff-7fff-ffff-ffffffffffff"
_ONCE = frozenset({"log", "metric", "prediction"})


class Halves(NamedTuple):
    """An id of 128 bits as two signed numbers with the same order."""

    high: int
    low: int


def halves(request_id: str) -> Halves | None:
    """The halves of a UUID of version 7 in lower case, as our request ids are; None for any other id."""
    if len(request_id) != 36 or not _UUID7.fullmatch(request_id):
        return None
    bits = int(request_id.replace("-", ""), 16)
    return Halves(bits >> 64, (bits & 2**64 - 1) - 2**63)


def halves_from(beginning: str) -> tuple[Halves, Halves] | None:
    """The smallest and the largest such id with a prefix; None when there is none."""
    low, high = halves(beginning + _LEAST[len(beginning) :]), halves(beginning + _MOST[len(beginning) :])
    return (low, high) if low and high else None


def dashed(trace_id: str) -> str:
    """A trace id, or a prefix of one, with the dashes of a request id."""
    parts = [trace_id[:8], trace_id[8:12], trace_id[12:16], trace_id[16:20], trace_id[20:]]
    return "-".join(part for part in parts if part)


def key_of(time_ns: int, sequence: int = 0) -> int:
    """The sort key of a record: its time in microseconds, and bits of its number."""
    return min(max(time_ns // 1000, 0), _LAST) << _TIES | sequence % (1 << _TIES)


def identity(record: Record) -> str:
    """A record's id, unique among all tenants."""
    return f"{record.tenant}/{record.project}/{record.record}"


def made_once(record: Record) -> bool:
    """Whether a record's id is derived from its event, so that no other event can have it."""
    return record.kind in _ONCE


def schema() -> Any:
    """The schema of the index."""
    import tantivy

    made = tantivy.SchemaBuilder()
    # The values of all fields that nothing is counted by, as each field costs nearly a millisecond at each commit.
    made.add_text_field("terms", tokenizer_name="raw", index_option="basic")
    for name in SPLITS:
        if name != "version":
            made.add_text_field(name, tokenizer_name="raw", index_option="basic", fast=True)
    # Words that are split in Python and joined by spaces, so that filters and the index agree.
    made.add_text_field("text", tokenizer_name="whitespace", index_option="position")
    for name in ("key", "sequence", "second", "version", "count", "request_high", "request_low"):
        made.add_integer_field(name, fast=True)
    for name in ("key_first", "request_first", "request_last"):
        made.add_integer_field(name, fast=True)
    made.add_float_field("duration_ms", fast=True)
    made.add_bytes_field("source", stored=True)
    return made.build()


def term(field: str, value: str) -> str:
    """A field's value as a term."""
    return f"{field}={value}"


def document(sequence: int, record: Record) -> Any:
    """The document of a record with its number."""
    made = _common(sequence, record)
    if not made_once(record):
        made.add_text("terms", term("record", identity(record)))
    _add_ids(made, record)
    key = key_of(record.time_ns, sequence)
    made.add_integer("key", key)
    made.add_integer("second", second_of(key))
    made.add_integer("count", 1)
    if record.duration_ms is not None:
        made.add_float("duration_ms", record.duration_ms + 0.0)  # -0.0 becomes 0.0
    made.add_bytes("source", dumps(record))
    return made


def document_of_table(sequence: int, table: Table) -> Any:
    """The document of a table with the number of its first record."""
    made, columns = _common(sequence, table.like), table.columns
    made.add_text("terms", term("shape", TABLE))
    made.add_text("terms", term("trace_id", AS_REQUEST))
    keys = table_keys(sequence, table)
    made.add_integer("key", max(keys))
    made.add_integer("key_first", min(keys))
    made.add_integer("second", second_of(keys[0]))
    made.add_integer("count", table.size)
    highs = [columns.ids[at : at + 8] for at in range(0, len(columns.ids), 16)]
    made.add_integer("request_first", int.from_bytes(min(highs), "big"))
    made.add_integer("request_last", int.from_bytes(max(highs), "big"))
    for duration in columns.durations:
        made.add_float("duration_ms", duration + 0.0)
    made.add_bytes("source", sequence.to_bytes(8, "big") + dumps(table))
    return made


def table_keys(sequence: int, table: Table) -> list[int]:
    """The sort keys of a table's records."""
    return [key_of(time_ns, number) for number, time_ns in enumerate(table.columns.times, sequence)]


def table_of(source: bytes) -> tuple[int, Table]:
    """The number of a table's first record, and the table, from a document's source."""
    table = loads(source[8:])
    assert isinstance(table, Table)
    return int.from_bytes(source[:8], "big"), table


def second_of(key: int) -> int:
    """The second of a sort key."""
    return (key >> _TIES) // 1_000_000


def _common(sequence: int, record: Record) -> Any:
    """A document with the fields that records of a table share."""
    import tantivy

    made = tantivy.Document()
    add = made.add_text
    add("terms", term("scope", f"{record.tenant}/{record.project}"))
    add("kind", record.kind)
    add("severity", record.severity)
    add("service", record.service)
    add("name", record.name)
    add("model", record.model)
    add("status", record.status)
    add("text", _words(record.text) if len(record.text) <= _SHORT else " ".join(words_of(record.text)))
    made.add_integer("sequence", sequence)
    made.add_integer("version", record.version)
    _add_values(add, record)
    return made


def _add_ids(made: Any, record: Record) -> None:
    if found := halves(record.request_id):
        made.add_integer("request_high", found.high)
        made.add_integer("request_low", found.low)
    elif record.request_id:
        made.add_text("terms", term("request_id", record.request_id))
    if record.trace_id:
        same = found and record.trace_id == record.request_id.replace("-", "")
        made.add_text("terms", term("trace_id", AS_REQUEST if same else record.trace_id))


def _add_values(add: Callable[[str, str], None], record: Record) -> None:
    if record.version and (found := _number("version", str(record.version))):
        add("terms", found)
    if found := _number("status", record.status):
        add("terms", found)
    for name, value in record.attributes.items():
        text = text_of(value)
        add("terms", term(f"attributes.{name}", text))
        if found := _number(f"attributes.{name}", text):
            add("terms", found)


@lru_cache(maxsize=4096)
def _words(text: str) -> str:
    """The words of a short text, cached, as texts repeat."""
    return " ".join(words_of(text))


@lru_cache(maxsize=4096)
def _number(name: str, text: str) -> str:
    """The term of a value that is a number; empty for others."""
    found = number(text)
    return "" if found is None else term(f"#{name}", sortable(found))
