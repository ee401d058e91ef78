"""The child that looks for a repair: learns from records that a rule refuses, and finds its columns in them."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from services.data.discovery import documents as found_of
from services.data.discovery import records as found_in
from services.data.reading import extractor, paths
from services.data.reading.extractor import Refusal
from services.data.reading.kinds import Compiled, JsonRule, RegexRule, RuleDefinition, rule_from_json, to_json
from services.data.reading.samples import Sample
from services.data.repairs import lacking
from services.data.repairs.domain import Column, Found
from services.data.repairs.matching import Field, Known, Match, matched
from services.data.schema import ColumnType
from services.kit import patterns
from services.kit.child import Child, Json

_LEAST = 0.1  # of the refused records have to be of a kind that is looked at
_KINDS = 8
_PATTERNS = 16  # that a rule may have beside its first one
_SHORTEST, _WORD = 3, re.compile(r"[\w.-]+\Z")  # of values that are looked for in lines
_GROUP = re.compile(r"\(\?P<(\w+)>")


class _Look(NamedTuple):
    """What was found in records, or why nothing was."""

    definition: RuleDefinition | None = None
    columns: tuple[Column, ...] = ()
    reason: str = ""


def main(request: Json, child: Child) -> Json:
    """`{definition, records, values}` to a Found. `values` has the values of each column in rows that were accepted.

    With `lacking`, and what `lacking.records` is asked, instead of `records`: those columns have fewer values than they
    had.
    """
    definition = rule_from_json(request["definition"])
    known = [Known(column, request["values"].get(column.name, ())) for column in definition.columns]
    if "lacking" in request:
        return _said(_of_lacking(definition, known, request))
    records = list(request["records"])
    look = _look(definition, known, records)
    found = Found(look.definition, len(records), columns=look.columns, reason=look.reason)
    if look.definition:
        taken = _taken(look.definition, records)
        # What every other record says is tried on the rest.
        half = _look(definition, known, records[::2]).definition
        rest = records[1::2]
        right = _taken(half, rest) if half else 0
        reason = f"{look.reason}; {taken} of {len(records)} refused records fit"
        found = replace(found, taken=taken, tested=len(rest), right=right, reason=reason)
    return _said(found)


def _said(found: Found) -> Json:
    said = {**asdict(found), "columns": [asdict(column) for column in found.columns]}
    return {**said, "definition": to_json(found.definition) if found.definition else None}


def _of_lacking(rule: RuleDefinition, known: Sequence[Known], request: Json) -> Found:
    """The rule with other paths for the columns that records lack."""
    names = frozenset(request["lacking"])
    listed = ", ".join(sorted(names))[:300]
    if not isinstance(rule, JsonRule) or rule.inner or any("[*]" in column.source for column in rule.columns):
        return Found(None, 0, reason=f"{listed}: only columns of JSON documents are looked for elsewhere")
    documents = [found for text in lacking.records(request) if isinstance(found := _parsed(text), dict)]
    wanted = [one for one in known if one.column.name in names]
    made, columns = lacking.moved(rule, wanted, documents)
    if made is None:
        return Found(None, len(documents), reason=f"{listed}: not found elsewhere in records that lack them")
    # What every other record says is tried on the rest.
    half, rest = lacking.moved(rule, wanted, documents[::2])[0], documents[1::2]
    right = lacking.filled(half, names, rest) if half else 0
    taken = lacking.filled(made, names, documents)
    reason = f"elsewhere by now: {listed}; {taken} of {len(documents)} records that lacked them have them"
    return Found(made, len(documents), taken, len(rest), right, tuple(columns), reason)


def _look(rule: RuleDefinition, known: Sequence[Known], records: Sequence[str]) -> _Look:
    if isinstance(rule, RegexRule | JsonRule) and rule.inner:
        return _Look(reason="rules with rules inside cannot be repaired")
    match rule:
        case RegexRule():
            return _of_lines(rule, known, records)
        case JsonRule() if any("[*]" in column.source for column in rule.columns):
            return _Look(reason="rules that take arrays apart cannot be repaired")
        case JsonRule():
            return _of_documents(rule, known, records)
    return _Look(reason="only rules of text and of JSON documents can be repaired")


def _of_lines(rule: RegexRule, known: Sequence[Known], records: Sequence[str]) -> _Look:
    """The rule with another pattern for each kind of line that has all its required columns."""
    added, mapped = list[str](), dict[str, Column]()
    values = {value for one in known if one.column.type is ColumnType.STRING for value in one.values if _is_word(value)}
    for proposal in found_in.of_records(records, values).proposals[:_KINDS]:
        made = proposal.definition
        room = len(rule.more_patterns) + len(added) < _PATTERNS
        if not isinstance(made, RegexRule) or proposal.records < _LEAST * len(records) or not room:
            continue
        names = [column.source for column in made.columns]
        read = patterns.picker(made.pattern, names)
        rows = [row for record in records if (row := read(record)) is not None]
        fields = [Field(name, [row[place] for row in rows]) for place, name in enumerate(names)]
        if matches := _all_required(known, fields):
            added.append(_renamed(made.pattern, matches))
            for match in matches:
                mapped.setdefault(match.column.name, Column(match.column.name, match.field.name, match.confidence))
    if not added:
        return _Look(reason="no kind of the refused lines has all required columns")
    now = replace(rule, more_patterns=(*rule.more_patterns, *added))
    return _Look(now, tuple(mapped.values()), f"{len(added)} more way{'s' * (len(added) > 1)} to write these lines")


def _of_documents(rule: JsonRule, known: Sequence[Known], records: Sequence[str]) -> _Look:
    """The rule with other paths for the columns that are not where they were."""
    documents = [document for record in records if isinstance(document := _parsed(record), dict)]
    made = [one.definition for one in found_of.of_documents(Sample(tuple(documents), (), ())).proposals]
    if not made or not isinstance(made[0], JsonRule):
        return _Look(reason="the refused records are no JSON objects")
    places = [(column.source, paths.parse(column.source)) for column in made[0].columns]
    fields = [Field(name, [paths.find(document, path) for document in documents]) for name, path in places]
    if not (matches := _all_required(known, fields)):
        return _Look(reason="the refused records have not all required columns")
    sources = {match.column.name: match.field.name for match in matches}
    now = replace(rule, columns=tuple(replace(one, source=sources.get(one.name, one.source)) for one in rule.columns))
    moved = [before.name for before, after in zip(rule.columns, now.columns, strict=True) if before != after]
    if not moved:
        return _Look(reason="all columns are where they were")
    mapped = tuple(Column(match.column.name, match.field.name, match.confidence) for match in matches)
    return _Look(now, mapped, f"elsewhere by now: {', '.join(moved)}"[:500])


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= _SHORTEST and _WORD.match(value) is not None


def _all_required(known: Sequence[Known], fields: Sequence[Field]) -> list[Match]:
    """The columns that were found; none when one that is required was not."""
    matches = matched(known, fields)
    names = {match.column.name for match in matches}
    return [] if any(one.column.required and one.column.name not in names for one in known) else matches


def _renamed(pattern: str, matches: Sequence[Match]) -> str:
    """A pattern with the groups of the rule; what is no column has no name."""
    names = {match.field.name: match.column.source for match in matches}
    return _GROUP.sub(lambda group: f"(?P<{names[group[1]]}>" if group[1] in names else "(?:", pattern)


def _parsed(record: str) -> Any:
    try:
        return json.loads(record)
    except ValueError:
        return None


def _taken(rule: RuleDefinition, records: Sequence[str]) -> int:
    """How many records give a row."""
    if isinstance(rule, RegexRule):
        ready = extractor.for_lines(Compiled(rule.columns, pattern=rule.pattern, more_patterns=rule.more_patterns))
        return sum(not isinstance(ready.row(record), Refusal) for record in records)
    compiled = Compiled(rule.columns, paths=tuple(paths.parse(column.source) for column in rule.columns))
    ready = extractor.for_documents(compiled)
    return sum(not isinstance(ready.row(_parsed(record)), Refusal) for record in records)
