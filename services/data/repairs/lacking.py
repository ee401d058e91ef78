"""Finds columns that documents have elsewhere by now: reads what a run has read again, and looks at what lacks them."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.data.discovery import documents as found_of
from services.data.reading import connectors, lines, paths
from services.data.reading.extractor import Extractor, Refusal
from services.data.reading.folders import Place
from services.data.reading.kinds import JsonRule, compiled_from_json
from services.data.reading.samples import Sample
from services.data.reading.values import keeps
from services.data.repairs.domain import Column
from services.data.repairs.matching import Field, Known, matched
from services.kit.child import Json

_RECORDS, _BYTES = 2_000, 4 * 2**20  # rows without a value that are looked at
_READ = 200_000  # records that are read for them


class _EnoughError(Exception):
    """No more records are needed."""


class _Lacking:
    """A sink that keeps records whose rows have no value in any of some columns."""

    copies = None

    def __init__(self, columns: frozenset[str]) -> None:
        self._columns, self._read, self._bytes = columns, 0, 0
        self.records: list[str] = []

    def take(self, ready: Extractor, records: Sequence[Any], origins: Sequence[str], fields: Sequence[str]) -> None:
        places = [place for place, column in enumerate(ready.columns) if column.name in self._columns]
        for record in records:
            row = ready.row(record)
            if not isinstance(row, Refusal) and all(row[place] is None for place in places):
                self.records.append(lines.text_of(record, fields))
                self._bytes += len(self.records[-1])
            self._read += 1
            if len(self.records) >= _RECORDS or self._bytes >= _BYTES or self._read >= _READ:
                raise _EnoughError

    def take_broken(self, broken: Sequence[tuple[int, str, str]], part: str) -> None:
        """What is no record lacks nothing."""

    def take_refused(self, text: str, reason: str, origin: str) -> None:
        """Nor what was none when it landed."""

    def tell(self, fraction: float) -> None:
        """Who looks for a repair is not told how far."""

    def wait(self, reason: str) -> None:
        """Nor that the source is away."""


def records(request: Json) -> list[str]:
    """Of `{source, place, cursor, compiled, lacking, seconds}`: what was read behind a cursor and lacks the columns."""
    sink = _Lacking(frozenset(request["lacking"]))
    source, place = connectors.of_json(request["source"]), Place.from_json(request["place"])
    with contextlib.suppress(_EnoughError):
        source.read(place, compiled_from_json(request["compiled"]), request["cursor"] or {}, sink, request["seconds"])
    return sink.records


def moved(rule: JsonRule, known: Sequence[Known], documents: Sequence[Any]) -> tuple[JsonRule | None, list[Column]]:
    """The rule with other paths for known columns, all of which documents lack; None if one is not found.

    The places of its other columns are theirs.
    """
    names = {one.column.name for one in known}
    taken = {column.source for column in rule.columns if column.name not in names}
    proposals = found_of.of_documents(Sample(tuple(documents), (), ())).proposals
    made = proposals[0].definition if proposals else None
    if not isinstance(made, JsonRule):
        return None, []
    places = [(one.source, paths.parse(one.source)) for one in made.columns if one.source not in taken]
    fields = [Field(name, [paths.find(document, path) for document in documents]) for name, path in places]
    found = {match.column.name: match for match in matched(known, fields)}
    if set(found) != names:
        return None, []
    columns = (replace(one, source=found[one.name].field.name) if one.name in found else one for one in rule.columns)
    mapped = [Column(name, match.field.name, match.confidence) for name, match in found.items()]
    return replace(rule, columns=tuple(columns)), mapped


def filled(rule: JsonRule, names: frozenset[str], documents: Sequence[Any]) -> int:
    """How many documents have a value in all of these columns, by a rule."""
    wanted = [(paths.parse(one.source), one.type) for one in rule.columns if one.name in names]
    values = ([(paths.find(document, path), kind) for path, kind in wanted] for document in documents)
    return sum(all(value is not None and keeps(value, kind) for value, kind in row) for row in values)
