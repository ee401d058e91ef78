"""One rule for all records of a source whose records have fields: their columns, with types that the values have."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

from services.data.discovery import downloads, meanings
from services.data.discovery.domain import Discovery, Proposal
from services.data.discovery.evidence import Made, Make, left_over, weighed
from services.data.discovery.names import unused
from services.data.reading import extractor, lines
from services.data.reading.arrays import Unfit
from services.data.reading.connector_sql import declared
from services.data.reading.kinds import (
    Compiled,
    FileRule,
    FilesSource,
    RuleColumn,
    SqlRule,
    SqlSource,
)
from services.data.reading.samples import Sample, suggested
from services.data.reading.sqlite import Table
from services.data.schema import Column, quoted

# What a rule may have, as the contract says: columns, characters of where one comes from, characters of a statement.
_MOST, _LONGEST, _STATEMENT = 500, 256, 20_000
_UNEXPLAINED = 20


class Spot(NamedTuple):
    """A column that a rule can have: its name, and where its values come from."""

    name: str
    source: str


def of_rows(source: SqlSource, table: Table, sample: Sample) -> Discovery:
    """The columns of a table, the cursor first, but for those with bytes, which no type holds."""
    names = [column.name for column in sample.columns]
    at, kinds = {name: place for place, name in enumerate(names)}, dict(table.columns)
    records = [tuple(record[name] for name in names) for record in sample.records]
    binary = [name for name in names if any(isinstance(record[at[name]], bytes) for record in records)]
    held = sorted(set(names).difference(binary), key=lambda name: (name != source.cursor, at[name]))
    places, left = spots((name, name) for name in held)
    places, long = _selectable(places, source)
    statement = f"SELECT {', '.join(map(_item, places))} FROM {quoted(source.relation)}"
    fields = {place.source: place.name for place in places}

    def make(found: Sequence[Any]) -> Made | None:
        typed = [
            declared(place.name, kinds[place.source], [row[at[place.source]] for row in found]) for place in places
        ]
        columns = tuple(_column(column.name, column.name, column) for column in typed)
        ready = extractor.for_fields(Compiled(columns), [fields.get(name, "") for name in names])
        return Made(SqlRule(statement, columns), ready) if columns else None

    return _one(source.table, make, records, names, "rows of the table" + without([*binary, *left, *long]))


def _selectable(places: list[Spot], source: SqlSource) -> tuple[list[Spot], list[str]]:
    """As many columns as a statement has room for, and the others."""
    ends = accumulate((len(_item(place)) + len(", ") for place in places), initial=len(quoted(source.relation)))
    count = sum(end <= _STATEMENT - len("SELECT  FROM ") for end in ends) - 1
    return places[:count], [place.source for place in places[count:]]


def _item(place: Spot) -> str:
    return quoted(place.source) + ("" if place.name == place.source else f" AS {quoted(place.name)}")


def of_fields(source: FilesSource, sample: Sample) -> Discovery:
    """The columns of delimited files."""
    names, nulls = [column.name for column in sample.columns], frozenset(["", *source.null_values])
    places, left = spots((name, name) for name in names)

    def make(records: Sequence[Any]) -> Made | None:
        at = {name: place for place, name in enumerate(names)}
        columns = _typed(places, lambda name: [record[at[name]] for record in records], nulls)
        return Made(FileRule(columns), extractor.for_fields(Compiled(columns), names, nulls)) if columns else None

    records = [tuple(record.get(name) for name in names) for record in sample.records]
    return _one("records", make, records, names, "records of the files" + without(left))


def spots(said: Iterable[tuple[str, str]]) -> tuple[list[Spot], list[str]]:
    """Columns by the names they have and where they come from, and those that no rule can have.

    A name that cannot stay as it is gets another one.
    """
    places, names, left = list[Spot](), set[str](), list[str]()
    for name, source in said:
        if not 0 < len(source) <= _LONGEST or "\0" in source or len(places) == _MOST:
            left.append(source)
            continue
        name = unused(name.lstrip("_")[:100] or "column", names)
        names.add(name.lower())
        places.append(Spot(name, source))
    return places, left


def without(left: Iterable[str]) -> str:
    """What a reason says of columns that are left out."""
    said = ", ".join(name[:60] or "the one without a name" for name in left)[:200].replace("\0", "\ufffd")
    return f" (no column for {said})" if said else ""


def _typed(
    places: Sequence[Spot], values: Callable[[str], Sequence[Any]], nulls: frozenset[str] = frozenset()
) -> tuple[RuleColumn, ...]:
    """Columns with the types that the values of their places suggest."""
    return tuple(_column(*place, suggested(place.name, values(place.source), set(nulls))) for place in places)


def _column(name: str, source: str, found: Column) -> RuleColumn:
    return RuleColumn(name, source, found.type, required=not found.nullable)


def _one(name: str, make: Make, records: Sequence[Any], fields: Sequence[str], about: str) -> Discovery:
    made = make(records) if records else None
    found = (told(weighed(rule_name(name), made, make, records, fields, about), made, records),) if made else ()
    left = left_over(made, records)
    return Discovery(len(records), found, len(left), tuple(lines.text_of(one, fields) for one in left[:_UNEXPLAINED]))


def rule_name(name: str) -> str:
    """A name for a rule that says the same."""
    rule = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")[:40] or "records"
    return rule if rule[0].isalpha() else f"r_{rule}"


def told(proposal: Proposal, made: Made, records: Sequence[Any]) -> Proposal:
    """With what its columns are about."""
    rows = [row for record in records[: meanings.LOOKED_AT] for row in _raws(made, record)][: meanings.LOOKED_AT]
    said = meanings.said([column.name for column in made.definition.columns], rows)
    proposal = replace(proposal, downloads=downloads.found(made.definition.columns, rows))
    return replace(proposal, reason=f"{proposal.reason}; {said}") if said else proposal


def _raws(made: Made, record: Any) -> Sequence[Sequence[Any]]:
    try:
        return made.ready.raws(record)
    except Unfit:
        return ()
