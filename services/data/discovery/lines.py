"""A rule for each kind of line of a text, the most frequent kind first."""

import re
from collections.abc import Sequence
from functools import partial

from services.data.discovery import headers, templates
from services.data.discovery.domain import Discovery, Proposal
from services.data.discovery.evidence import Made, left_over, weighed
from services.data.discovery.expressions import rule_of
from services.data.discovery.headers import Header
from services.data.discovery.names import unused
from services.data.discovery.words import HOLE, Words, words_of
from services.data.reading import extractor, lines
from services.data.reading.extractor import Refusal
from services.data.reading.kinds import Compiled
from services.data.rules.domain import Refused

MOST = 200  # rules
_UNEXPLAINED = 20
_COMPARED = 500  # lines that every rule is tried on
_NAME = re.compile(r"[a-z0-9]+")


def of_lines(found: Sequence[str]) -> Discovery:
    """The rules; lines of kinds beyond MOST, and of kinds that no pattern can say, are left unexplained."""
    header = headers.find(found)
    messages = [header.content(line) for line in found]
    kinds = templates.learn(
        [words_of(line if text is None else text) for line, text in zip(found, messages, strict=True)]
    )
    made, names = list[tuple[templates.Template, Header, Made, str]](), set[str]()
    for kind in kinds[:MOST]:
        front = header if all(messages[line] is not None for line in kind.lines) else Header()
        if rule := _made(front, kind.words, [found[line] for line in kind.lines]):
            made.append((kind, front, rule, _unique(kind.words, names)))
    each = max(1, _COMPARED // max(len(made), 1))
    compared = [(found[line], name) for kind, _, _, name in made for line in kind.lines[:each]]
    proposals, left = list[Proposal](), set(range(len(found)))
    for kind, front, rule, name in made:
        against = [
            Refused(lines.text_of(line, ()), f"it is one of {owner}, too")
            for line, owner in compared
            if owner != name and not isinstance(rule.ready.row(line), Refusal)
        ]
        texts = [found[line] for line in kind.lines]
        about = f"lines of the form: {' '.join(kind.words).replace(HOLE, '<*>')[:300]}"
        proposals.append(weighed(name, rule, partial(_made, front, kind.words), texts, (), about, against))
        refused = set(left_over(rule, texts))
        left.difference_update(line for line in kind.lines if found[line] not in refused)
    shown = [lines.text_of(found[line], ()) for line in sorted(left)[:_UNEXPLAINED]]
    return Discovery(len(found), tuple(proposals), len(left), tuple(shown))


def _made(header: Header, words: Words, texts: Sequence[str]) -> Made | None:
    if (rule := rule_of(header, words, texts)) is None:
        return None
    return Made(rule, extractor.for_lines(Compiled(rule.columns, pattern=rule.pattern)))


def _unique(words: Words, names: set[str]) -> str:
    """A name for a rule, by its own words."""
    parts = _NAME.findall(" ".join(words).replace(HOLE, " ").lower())
    while parts and not parts[0][0].isalpha():
        del parts[0]
    name = unused("_".join(parts)[:40].strip("_") or "values", names)
    names.add(name)
    return name
