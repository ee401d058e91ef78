"""A rule for each kind of line of a text, the most frequent kind first."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from services.data.discovery import headers, templates
from services.data.discovery.controls import Controls
from services.data.discovery.domain import Discovery, Proposal
from services.data.discovery.evidence import Made, Make, weighed
from services.data.discovery.expressions import rule_of
from services.data.discovery.headers import Header
from services.data.discovery.names import unused
from services.data.discovery.portions import chosen
from services.data.discovery.templates import Template
from services.data.discovery.words import HOLE, Words, words_of
from services.data.reading import extractor, lines
from services.data.reading.extractor import Refusal
from services.data.reading.kinds import Compiled
from services.data.rules.domain import Refused
from services.kit.errors import Failure

MOST = 200  # rules
_UNEXPLAINED = 20
_COMPARED, _ROOM = 500, 2**18  # lines that every rule is tried on, and their characters
_NAME, _NAMES = re.compile(r"[a-z0-9]+"), re.compile(r"[\w.-]+")


class _Found(NamedTuple):
    """A kind of lines with its rule: all of its lines, those that it was made of, and those as they were learnt."""

    kind: Template
    front: Header
    made: Made
    name: str
    tried: Sequence[int]
    make: Make


def of_lines(found: Sequence[str], values: Collection[str] = ()) -> Discovery:
    """The rules; lines of kinds beyond MOST, and of kinds that no pattern can say, are left unexplained.

    Words that are among `values` are values wherever they stand.
    """
    controls = Controls(found)
    learnt = controls.marked(found)
    header = headers.find(learnt)
    messages = [header.content(line) for line in learnt]
    texts = [line if text is None else text for line, text in zip(learnt, messages, strict=True)]
    if values:
        texts = [_NAMES.sub(lambda word: "0" if word[0] in values else word[0], text) for text in texts]
    kinds = templates.learn([words_of(text) for text in texts])[:MOST]
    fronts = [header if all(messages[line] is not None for line in kind.lines) else Header() for kind in kinds]
    made, names = list[_Found](), set[str]()
    for kind, front, tried in zip(kinds, fronts, chosen(kinds, fronts, learnt), strict=True):
        make = partial(_made, front, kind.words, controls)
        if tried and (rule := make([found[line] for line in tried])):
            made.append(_Found(kind, front, rule, _unique(kind.words, names), tried, make))
    compared = list(_compared(made, found))
    proposals, left = list[Proposal](), set(range(len(found)))
    for one in made:
        texts = [found[line] for line in one.tried]
        about = f"lines of the form: {controls.said(' '.join(one.kind.words)).replace(HOLE, '<*>')[:300]}"
        against = [
            Refused(lines.text_of(line, ()), f"it is one of {owner}, too")
            for line, owner in compared
            if owner != one.name and not isinstance(one.made.ready.row(line), Refusal)
        ]
        proposals.append(weighed(one.name, one.made, one.make, texts, (), about, against, len(one.kind.lines)))
        left.difference_update(one.kind.lines)
        left.update(line for line in one.tried if isinstance(one.made.ready.row(found[line]), Refusal))
    shown = [lines.text_of(found[line], ()) for line in sorted(left)[:_UNEXPLAINED]]
    return Discovery(len(found), tuple(proposals), len(left), tuple(shown))


def _compared(made: Sequence[_Found], found: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Lines of every kind, with the names of their rules."""
    each, left = max(1, _COMPARED // max(len(made), 1)), _ROOM
    for one in made:
        for line in one.tried[:each]:
            left -= len(found[line])
            if left >= 0:
                yield found[line], one.name


def _made(header: Header, words: Words, controls: Controls, texts: Sequence[str]) -> Made | None:
    if (rule := rule_of(header, words, controls.marked(texts))) is None:
        return None
    rule = replace(rule, pattern=controls.said(rule.pattern))
    try:
        return Made(rule, extractor.for_lines(Compiled(rule.columns, pattern=rule.pattern)))
    except Failure:
        return None  # written out, it is too long for a pattern


def _unique(words: Words, names: set[str]) -> str:
    """A name for a rule, by its own words."""
    parts = _NAME.findall(" ".join(words).replace(HOLE, " ").lower())
    while parts and not parts[0][0].isalpha():
        del parts[0]
    name = unused("_".join(parts)[:40].strip("_") or "values", names)
    names.add(name)
    return name
