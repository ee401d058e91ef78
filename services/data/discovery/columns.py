"""One rule for all records of a source whose records have fields: their columns, with types that the values have."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from services.data.discovery.domain import Discovery
from services.data.discovery.evidence import Made, Make, weighed
from services.data.reading import extractor, lines, paths
from services.data.reading.extractor import Refusal
from services.data.reading.kinds import (
    Compiled,
    FileRule,
    FilesSource,
    JsonRule,
    RuleColumn,
    SqlRule,
    SqlSource,
)
from services.data.reading.samples import Sample, suggested
from services.data.reading.sqlite import quoted

_DEEPEST = 6  # levels of a document that become columns
_MOST = 500  # columns
_UNEXPLAINED = 20
_STEP = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_QUOTABLE = re.compile(r"[^'\\]*\Z")


def of_rows(source: SqlSource, sample: Sample) -> Discovery:
    """The whole table: a SELECT of all its columns."""
    names = [column.name for column in sample.columns]

    def make(records: Sequence[Any]) -> Made:
        columns = _typed((name, name, [record[i] for record in records]) for i, name in enumerate(names))
        sql = f"SELECT {', '.join(map(quoted, names))} FROM {quoted(source.table)}"
        return Made(SqlRule(sql, columns), extractor.for_fields(Compiled(columns), names))

    return _one(source.table, make, [tuple(record.values()) for record in sample.records], names, "rows of the table")


def of_fields(source: FilesSource, sample: Sample) -> Discovery:
    """The columns of delimited files."""
    names, nulls = [column.name for column in sample.columns], frozenset(["", *source.null_values])

    def make(records: Sequence[Any]) -> Made:
        columns = _typed(((name, name, [record[i] for record in records]) for i, name in enumerate(names)), nulls)
        return Made(FileRule(columns), extractor.for_fields(Compiled(columns), names, nulls))

    records = [tuple(record.get(name) for name in names) for record in sample.records]
    return _one("records", make, records, names, "records of the files")


def of_documents(sample: Sample) -> Discovery:
    """The values of JSON documents, also inside other objects; what is a list has no column."""
    places, lists = dict[str, str](), Counter[str]()
    for document in sample.records:
        _places(document, (), places, lists)

    def make(records: Sequence[Any]) -> Made | None:
        parsed = {path: paths.parse(path) for path in places}
        found = (
            (name, path, [paths.find(record, parsed[path]) for record in records]) for path, name in places.items()
        )
        columns = _typed(found)
        compiled = Compiled(columns, paths=tuple(parsed[column.source] for column in columns))
        return Made(JsonRule(columns), extractor.for_documents(compiled)) if columns else None

    about = "documents"
    if lists:
        about += f" (no column for the lists {', '.join(sorted(lists))[:200]})"
    return _one("documents", make, sample.records, (), about)


def _places(value: dict[str, Any], steps: tuple[str, ...], places: dict[str, str], lists: Counter[str]) -> None:
    for step, inner in value.items():
        if not step or not _QUOTABLE.match(step):
            continue
        here = (*steps, step)
        path = "$" + "".join(f".{one}" if _STEP.match(one) else f"['{one}']" for one in here)
        if isinstance(inner, dict) and len(here) < _DEEPEST:
            _places(inner, here, places, lists)
        elif isinstance(inner, list | dict):
            lists[path] += 1
        elif len(places) < _MOST:
            places.setdefault(path, "_".join(here))


def _typed(
    found: Iterable[tuple[str, str, Sequence[Any]]], nulls: frozenset[str] = frozenset()
) -> tuple[RuleColumn, ...]:
    """Columns by name, place and values. A name that cannot stay as it is gets a number."""
    columns, names = list[RuleColumn](), set[str]()
    for said, source, values in found:
        column = suggested(said, values, set(nulls))
        name = said.lstrip("_")[:100] or "column"
        unique = next(one for one in (name, *(f"{name}_{n}" for n in range(2, 10_000))) if one.lower() not in names)
        names.add(unique.lower())
        columns.append(RuleColumn(unique, source, column.type, required=not column.nullable))
    return tuple(columns[:_MOST])


def _one(name: str, make: Make, records: Sequence[Any], fields: Sequence[str], about: str) -> Discovery:
    rule = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")[:40] or "records"
    found = weighed(rule if rule[0].isalpha() else f"r_{rule}", make, records, fields, about) if records else None
    if found is None:
        shown = tuple(lines.text_of(record, fields) for record in records[:_UNEXPLAINED])
        return Discovery(len(records), (), len(records), shown)
    made = make(records)
    left = [record for record in records if made is None or isinstance(made.ready.row(record), Refusal)]
    return Discovery(
        len(records), (found,), len(left), tuple(lines.text_of(record, fields) for record in left[:_UNEXPLAINED])
    )
