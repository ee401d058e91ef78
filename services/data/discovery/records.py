"""Rules for records that may have several lines: the first lines tell the kinds, the others are one column."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from services.data.discovery import documents, lines
from services.data.discovery.domain import Discovery, Proposal
from services.data.discovery.names import unused
from services.data.reading import extractor
from services.data.reading.extractor import Extractor, Refusal
from services.data.reading.folders import Place
from services.data.reading.kinds import FileFormat, FilesSource, InnerRule, JsonRule, RegexRule, RuleColumn
from services.data.reading.lines import is_deep
from services.data.reading.samples import Sample
from services.data.rules.compiling import compile_rule
from services.data.rules.domain import Refused
from services.data.schema import ColumnType
from services.data.structs import to_plain
from services.kit import patterns
from services.kit.errors import Failure

_SHOWN = 3  # rows of a rule
_SPACE = re.compile(r"\\s(?=[*+])")  # as patterns are written by `expressions`: the first line ends where it ends
_LEAST = 3  # bodies of JSON that say what is in them
_TEXT = FilesSource(FileFormat.TEXT, "a")
# What a trace is about: with Java in its first line, with Python in its last one.
_ERROR = (
    r"(?:Traceback \(most recent call last\):\n(?s:.*\n)|Exception in thread \"[^\"\n]*\" )?"
    r"(?P<{}>[A-Za-z_$][\w$]*(?:\.[\w$]+)+|[A-Z]\w*(?:Error|Exception|Warning|Interrupt|Exit))"
    r"(?:: (?P<{}>[^\n]*))?(?:\n(?s:.*))?"
)
_TRACE = re.compile(r"^\s+at \S|^Traceback \(most recent call last\):|^\s+File \"", re.MULTILINE)


def of_records(found: Sequence[str], values: Collection[str] = ()) -> Discovery:
    """The rules, as `lines.of_lines` finds them; of kinds whose records have more lines, with a column for these."""
    if not any("\n" in record for record in found):
        return lines.of_lines(found, values)
    learnt = lines.of_lines([record.partition("\n")[0] for record in found], values)
    whole = {record.partition("\n")[0]: record for record in reversed(found)}
    rules = [proposal.definition for proposal in learnt.proposals]
    owned = _owned([rule.pattern for rule in rules if isinstance(rule, RegexRule)], found)
    pairs = zip(learnt.proposals, owned, strict=True)
    proposals = tuple(_with_rest(proposal, mine, whole) for proposal, mine in pairs)
    examples = tuple(whole.get(example, example) for example in learnt.examples)
    return replace(learnt, proposals=proposals, examples=examples)


def _owned(expressions: Sequence[str], found: Sequence[str]) -> list[list[str]]:
    """The records of each pattern."""
    owned: list[list[str]] = [[] for _ in expressions]
    if expressions:
        choose = patterns.choice(tuple(expressions))
        for record in found:
            for place in choose(record.partition("\n")[0]):
                owned[place].append(record)
    return owned


def _with_rest(proposal: Proposal, mine: Sequence[str], whole: dict[str, str]) -> Proposal:
    """A rule for whole records instead of their first lines."""
    rule = proposal.definition
    assert isinstance(rule, RegexRule), "lines have no others"
    rests = [rest for record in mine if (rest := record.partition("\n")[2])]
    if not rests:
        return proposal
    traced = 2 * sum(_TRACE.search(rest) is not None for rest in rests) > len(rests)
    taken = {column.name.lower() for column in rule.columns}
    name = unused("trace" if traced else "more", taken)
    names, rest, inner = [name], "(?s:.*)", None
    if traced:
        names += [unused(group, {*taken, name}) for group in ("error", "error_text")]
        rest = f"{_ERROR.format(*names[1:])}|{rest}"
    else:
        inner = _of_bodies(name, rests, {*taken, name})
    pattern = _SPACE.sub(r"[\\t\\f\\r ]", rule.pattern) + rf"(?:\n(?P<{name}>{rest}))?"
    columns = (*rule.columns, *(RuleColumn(one, one, ColumnType.STRING) for one in names))
    longer = replace(rule, pattern=pattern, columns=columns, inner=(inner,) if inner else ())
    try:
        ready = extractor.of(compile_rule(longer, _TEXT, Place(Path("/"), ())), (), ())
    except Failure:
        return proposal  # too long for a pattern, with a column more
    reason = f"{proposal.reason}; {len(rests)} of {len(mine)} have more lines, which are {name}"
    against = tuple(Refused(whole.get(one.record, one.record), one.reason) for one in proposal.counter_examples)
    rows = _rows(ready, mine)
    return replace(proposal, definition=longer, rows=rows, counter_examples=against, reason=reason)


def _of_bodies(name: str, rests: Sequence[str], taken: set[str]) -> InnerRule | None:
    """The values of bodies that are JSON, if all are."""
    bodies = list[dict[str, Any]]()
    for rest in rests:
        try:
            body = orjson.loads(rest)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(body, dict) or is_deep(rest, body):
            return None
        bodies.append(body)
    found = next(iter(documents.of_documents(Sample(tuple(bodies), (), ())).proposals), None)
    if len(bodies) < _LEAST or found is None or not isinstance(found.definition, JsonRule):
        return None
    if any("[*]" in column.source for column in found.definition.columns):
        return None
    columns = []
    for column in found.definition.columns:
        columns.append(replace(column, name=unused(column.name, taken), required=False))
        taken.add(columns[-1].name.lower())
    return InnerRule(name, JsonRule(tuple(columns)))


def _rows(ready: Extractor, records: Sequence[str]) -> tuple[dict[str, object], ...]:
    """What the rule makes of some records, those with more lines first."""
    rows = list[dict[str, object]]()
    for record in sorted(records, key=lambda one: "\n" not in one)[:_SHOWN]:
        if not isinstance(row := ready.row(record), Refusal):
            rows.append(to_plain(dict(zip((column.name for column in ready.columns), row, strict=True))))
    return tuple(rows)
