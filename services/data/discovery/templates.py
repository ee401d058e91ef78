"""Kinds of lines, learnt from lines: which words are the kind's own, and where any value may stand. Pure.

Lines whose words are the same but for values that show by their form are of one kind to begin with. Then, where such
kinds differ in one place only (or two), the words that were seen there decide: many, most of them seen once, are
values; few that come again and again are words of different kinds. What was learnt of a word in front of values helps
to decide in a second round. Nothing depends on the order of the lines.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.data.discovery import defaults as d
from services.data.discovery import phrases
from services.data.discovery.phrases import Kinds
from services.data.discovery.slots import are_values, common, is_open, is_plain, own
from services.data.discovery.words import HOLE, Words

_ROUNDS = 2
_KEY = re.compile(r"(?:[A-Za-z_.]+[:=])?")


@dataclass(frozen=True)
class Template:
    """A kind of lines: its words, with a HOLE where values stand, and the numbers of its lines."""

    words: Words
    lines: tuple[int, ...]


def learn(shapes: Sequence[Words]) -> list[Template]:
    """The kinds of lines with these words, the most frequent first."""
    first: Kinds = defaultdict(list)
    for number, words in enumerate(shapes):
        first[words].append(number)
    by_length: dict[int, Kinds] = defaultdict(dict)
    for words in sorted(first):
        by_length[len(words)][words] = first[words]
    before: set[str] = set()
    for _ in range(_ROUNDS):
        by_length = {length: _merged(kinds, length, before) for length, kinds in by_length.items()}
        before = _before_values(words for kinds in by_length.values() for words in kinds)
    kinds = phrases.inside({words: lines for kinds in by_length.values() for words, lines in kinds.items()})
    found = [Template(words, tuple(sorted(lines))) for words, lines in phrases.at_the_end(kinds, shapes).items()]
    return sorted(found, key=lambda template: (-len(template.lines), template.words))


def _merged(kinds: Kinds, length: int, before: Collection[str]) -> Kinds:
    kinds = _single(kinds, length, before)
    if length > 2:
        kinds = _single(_double(kinds, length), length, before)
    return _agreeing(kinds, length)


def _before_values(templates: Iterable[Words]) -> set[str]:
    """Plain words that are followed by a value more often than not."""
    values, others = Counter[str](), Counter[str]()
    for words in templates:
        for word, follows in pairwise(words):
            (values if follows.startswith(HOLE) else others)[word] += 1
    return {word for word, count in values.items() if is_plain(word) and count > others[word]}


def _single(kinds: Kinds, length: int, before: Collection[str]) -> Kinds:
    """Kinds that differ in one place where values stand are one."""
    while True:
        holes: defaultdict[Words, dict[int, str]] = defaultdict(dict)
        for place in range(length):
            for found in _alike(kinds, place):
                some, hollow = next(iter(found.values())), common(found)
                known = own(some, place) or (len(found) > d.MANY and (len(some) > 1 or hollow != HOLE))
                counts = {word: len(kinds[words]) for word, words in found.items()}
                if known and are_values(counts, place, some, before):
                    for words in found.values():
                        holes[words][place] = hollow
        if not holes:
            return kinds
        merged: Kinds = defaultdict(list)
        for words, lines in kinds.items():
            merged[tuple(holes[words].get(i, word) for i, word in enumerate(words))] += lines
        kinds = dict(merged)


def _alike(kinds: Kinds, place: int) -> list[dict[str, Words]]:
    """Kinds that are the same but for one place, by their words there; of one word, those with the same key."""
    alike: defaultdict[Words, dict[str, Words]] = defaultdict(dict)
    for words in kinds:
        around = words[:place] + words[place + 1 :] if len(words) > 1 else tuple(_KEY.findall(words[0])[:1])
        alike[around][words[place]] = words
    return [found for found in alike.values() if len(found) > 1]


def _double(kinds: Kinds, length: int) -> Kinds:
    """Kinds that differ in two places, with more pairs of words there than kinds would have."""
    changed = True
    while changed and len(kinds) < d.CROWD:
        changed = False
        for first in range(length):
            for second in range(first + 1, length):
                alike: defaultdict[Words, list[Words]] = defaultdict(list)
                for words in kinds:
                    alike[words[:first] + words[first + 1 : second] + words[second + 1 :]].append(words)
                for found in alike.values():
                    if _are_pairs(kinds, found, first, second):
                        hollow = tuple(HOLE if i in (first, second) else word for i, word in enumerate(found[0]))
                        lines = [line for words in found for line in kinds.pop(words)]
                        kinds[hollow] = kinds.get(hollow, []) + lines
                        changed = True
    return kinds


def _are_pairs(kinds: Kinds, found: Sequence[Words], first: int, second: int) -> bool:
    least = 1 if len(found) >= d.PAIRS else max(2, len(found[0]) // 3)
    if len(found) < 3 or own(found[0], first, second) < least:
        return False
    if min(len({words[place] for words in found}) for place in (first, second)) < 2:
        return False
    counts = [len(kinds[words]) for words in found]
    if len(found) < d.PAIRS:
        return counts.count(1) >= d.PAIRS_ONCE * sum(counts)
    return is_open({words: len(kinds[words]) for words in found})


def _agreeing(kinds: Kinds, length: int) -> Kinds:
    """Kinds that say nothing against each other: wherever they differ, one of them has a value."""
    hollow = sorted((words for words in kinds if HOLE in words), key=lambda words: (-words.count(HOLE), words))
    if len(kinds) > d.FEW:
        return kinds
    for one in hollow:
        for other in sorted(kinds) if one in kinds else ():
            if one == other or one not in kinds or other not in kinds:
                continue
            pairs = list(zip(one, other, strict=True))
            same = tuple(ours for ours, theirs in pairs if ours == theirs)
            agree = all(ours == theirs or HOLE in (ours, theirs) for ours, theirs in pairs)
            if agree and own(same) >= max(2, length / 2):
                both = tuple(ours if ours == theirs else HOLE for ours, theirs in pairs)
                lines = kinds.pop(one) + kinds.pop(other)
                kinds[both] = kinds.get(both, []) + lines
                one = both
    return kinds
