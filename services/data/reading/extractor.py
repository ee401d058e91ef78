"""A checked rule at work: record in, typed row or refusal out. The same for tests, previews and extractions. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import orjson

from services.data.reading import arrays, paths
from services.data.reading.arrays import Unfit
from services.data.reading.kinds import Compiled, CompiledInner, RuleColumn
from services.data.reading.values import Misfit, Value, parse
from services.data.schema import ColumnType
from services.kit import patterns

Row = tuple[Value, ...]
Pick = Callable[[Any], Sequence[Any] | None]
NO_MATCH = "the line does not match"


@dataclass(frozen=True)
class Refusal:
    """Why a record gives no row: the rule that it breaks, without its values, so that refusals can be counted."""

    reason: str


@dataclass(frozen=True)
class Extractor:
    """What makes rows out of the records of one part of a source."""

    columns: tuple[RuleColumn, ...]
    # The raw values of a record in the order of the columns; None when the record does not match at all. Raises Unfit.
    pick: Pick
    # Texts that mean a missing value.
    nulls: frozenset[str] = frozenset()
    # Of a rule set: those of its rules in their order, and which of them a record can be for; all of them if unset.
    branches: "tuple[Extractor, ...]" = ()
    choose: Callable[[Any], Sequence[int]] | None = None
    # Of a rule that takes an array apart: the raw values of all rows of a record, each of which `pick` gives back.
    spread: Callable[[Any], Sequence[Sequence[Any]]] | None = None
    # Where `pick` takes values of records that are sequences; None where none is. Unset, it is not said.
    places: Sequence[int | None] | None = None

    def rows(self, record: Any) -> Sequence[Row] | Refusal:
        """All rows of one record: it is refused if one of them is."""
        if self.spread is None:
            row = self.row(record)
            return row if isinstance(row, Refusal) else (row,)
        try:
            found = [self._typed(raw) for raw in self.spread(record)]
        except Unfit as unfit:
            return Refusal(unfit.reason)
        refused = next((row for row in found if isinstance(row, Refusal)), None)
        return refused or [row for row in found if not isinstance(row, Refusal)]

    def raws(self, record: Any) -> Sequence[Sequence[Any]]:
        """The raw values of all rows of one record, none where it does not match. Raises Unfit."""
        if self.spread is not None:
            return self.spread(record)
        raw = self.pick(record)
        return () if raw is None else (raw,)

    def row(self, record: Any) -> Row | Refusal:
        """One record that is one row at most."""
        try:
            raw = self.pick(record)
        except Unfit as unfit:
            return Refusal(unfit.reason)
        return Refusal(NO_MATCH) if raw is None else self._typed(raw)

    def _typed(self, raw: Sequence[Any]) -> Row | Refusal:
        row: list[Value] = []
        for value, column in zip(raw, self.columns, strict=True):
            if self.missing(value, column):
                if column.required:
                    return Refusal(f"{column.name} is missing")
                row.append(None)
                continue
            try:
                row.append(parse(value, column.type))
            except Misfit:
                return Refusal(f"{column.name} does not fit {column.type}")
        return tuple(row)

    def missing(self, value: Any, column: RuleColumn) -> bool:
        """A value that is not there, or a text that says so; of a variant column also what is not its own."""
        if isinstance(value, str):
            return value in self.nulls
        return value is None or (column.variant and isinstance(value, dict | list))


def of(compiled: Compiled, fields: Sequence[str], nulls: Iterable[str]) -> Extractor:
    """For records of files: lines, documents, or fields by this header, where the nulls mean a missing value."""
    if compiled.branches:
        branches = tuple(of(branch, fields, nulls) for branch in compiled.branches)
        return Extractor((), lambda _: None, branches=branches, choose=_chosen(compiled.branches))
    if compiled.inner:
        return chained(compiled, lambda outer: of(outer, fields, nulls))
    if compiled.pattern:
        return for_lines(compiled)
    if compiled.paths:
        return for_documents(compiled)
    return for_fields(compiled, fields, frozenset(["", *nulls]))


def _chosen(branches: Sequence[Compiled]) -> Callable[[str], Sequence[int]] | None:
    """Says which branches a line can be for, if all of them have patterns."""
    if not all(branch.pattern for branch in branches):
        return None
    pairs = [(n, each) for n, branch in enumerate(branches) for each in (branch.pattern, *branch.more_patterns)]
    owners, choice = [n for n, _ in pairs], patterns.choice(tuple(each for _, each in pairs))
    if len(owners) == len(branches):
        return choice
    return lambda line: list(dict.fromkeys(owners[place] for place in choice(line)))


def for_fields(compiled: Compiled, fields: Sequence[str], nulls: frozenset[str] = frozenset()) -> Extractor:
    """For records that are sequences: lines of a delimited file with this header, rows of a query."""
    places = {name: place for place, name in reversed(list(enumerate(fields)))}
    chosen = [places.get(column.source) for column in compiled.columns]
    return Extractor(compiled.columns, _chooser(chosen), nulls, places=chosen)


def _chooser(chosen: Sequence[int | None]) -> Pick:
    if not chosen:
        return lambda _: ()
    if None in chosen:
        return lambda record: [None if place is None else record[place] for place in chosen]
    if len(chosen) == 1:
        return lambda record: (record[chosen[0]],)
    pick: Pick = itemgetter(*chosen)
    return pick


def for_documents(compiled: Compiled) -> Extractor:
    """For parsed JSON values."""
    if any(paths.EACH in path for path in compiled.paths):
        spread = arrays.spreader(compiled.paths, compiled.keep_empty)
        return Extractor(compiled.columns, _as_it_is, spread=spread)
    return Extractor(compiled.columns, lambda document: [paths.find(document, path) for path in compiled.paths])


def _as_it_is(raw: Sequence[Any]) -> Sequence[Any]:
    return raw


def for_lines(compiled: Compiled) -> Extractor:
    """For lines of text. An empty group is a missing value, and so is one that a pattern has not."""
    names = [column.source for column in compiled.columns]
    first, *others = [_picker(pattern, names) for pattern in (compiled.pattern, *compiled.more_patterns)]
    return Extractor(compiled.columns, _first_of((first, *others)) if others else first, frozenset([""]))


def _picker(pattern: str, names: Sequence[str]) -> Pick:
    known = patterns.groups(pattern)
    there = [name for name in names if name in known]
    pick: Pick = patterns.picker(pattern, there)
    if len(there) == len(names):
        return pick
    places = [there.index(name) if name in known else None for name in names]

    def spread(line: str) -> Sequence[Any] | None:
        raw = pick(line)
        return None if raw is None else [None if place is None else raw[place] for place in places]

    return spread


def _first_of(picks: Sequence[Pick]) -> Pick:
    def pick(line: str) -> Sequence[Any] | None:
        return next((raw for each in picks if (raw := each(line)) is not None), None)

    return pick


def chained(compiled: Compiled, plain: Callable[[Compiled], Extractor]) -> Extractor:
    """With rules inside: `plain` makes the extractor of the outer one, whose values are the texts of the inner ones."""
    own = len(compiled.columns) - sum(len(inner.compiled.columns) for inner in compiled.inner)
    texts = tuple(RuleColumn(inner.source, inner.source, ColumnType.STRING) for inner in compiled.inner)
    columns = (*compiled.columns[:own], *texts)
    steps = (*compiled.paths, *(inner.path for inner in compiled.inner)) if compiled.paths else ()
    outer = plain(replace(compiled, columns=columns, paths=steps, inner=()))
    inside = [_inside(inner) for inner in compiled.inner]

    def chain(raw: Sequence[Any]) -> Sequence[Any]:
        known = _known(outer, columns, raw)
        found = known[:own]
        for text, read in zip(known[own:], inside, strict=True):
            found += read(text)
        return found

    def pick(record: Any) -> Sequence[Any] | None:
        raw = outer.pick(record)
        return None if raw is None else chain(raw)

    if (spread := outer.spread) is not None:
        return Extractor(compiled.columns, _as_it_is, spread=lambda record: [chain(raw) for raw in spread(record)])
    return Extractor(compiled.columns, pick)


def _known(ready: Extractor, columns: Sequence[RuleColumn], raw: Sequence[Any]) -> list[Any]:
    """Values with None for what means a missing one: another rule, with other such texts, reads on from here."""
    return [None if ready.missing(value, column) else value for value, column in zip(raw, columns, strict=True)]


def _inside(inner: CompiledInner) -> Callable[[Any], Sequence[Any]]:
    """Reads the values of an inner rule's columns out of a text. Raises Unfit."""
    ready = of(inner.compiled, (), ())
    nothing, source = [None] * len(ready.columns), inner.source
    is_json = not inner.compiled.pattern

    def read(text: Any) -> Sequence[Any]:
        if text is None:
            return nothing
        raw = ready.pick(_document(text, source) if is_json else _text(text, source))
        if raw is None:
            raise Unfit(f"{source} does not match")
        return _known(ready, ready.columns, raw)

    return read


def _document(text: Any, source: str) -> dict[str, Any]:
    if isinstance(text, str):
        try:
            text = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise Unfit(f"{source} is not JSON") from None
    if not isinstance(text, dict):
        raise Unfit(f"{source} is not a JSON object")
    return text


def _text(value: Any, source: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    if not isinstance(value, str):
        raise Unfit(f"{source} is no text")
    return value
