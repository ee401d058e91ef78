"""Kinds of lines, learnt from lines: which words are the kind's own, and where any value may stand. Pure.

Lines whose words are the same but for values that show by their form are of one kind to begin with. Then, where such
kinds differ in one place only (or two), the words that were seen there decide: many, most of them seen once, are
values; few that come again and again are words of different kinds. What was learnt of a word in front of values helps
to decide in a second round. Nothing depends on the order of the lines.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.data.discovery.words import HOLE, Words, squeezed

_PLAIN = re.compile(r"[A-Za-z][a-z'-]*[.,:;!?]?\Z")
_ROUNDS = 2
_MANY, _SOME, _FIRST = 8, 4, 5  # different words at a place: surely values; with another sign; at the first place
_STATES = 3  # different words in capitals
_RARE = 0.3  # of the lines: words seen once, where values are
_CROWD = 2_000  # kinds of one length above which pairs of places are too many to look at
_FEW = 500  # the same for pairs of kinds
_TAIL = 8  # words of a value of several words
_MOSTLY = 0.9  # of the lines
Kinds = dict[Words, list[int]]


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
    kinds = {words: lines for kinds in by_length.values() for words, lines in kinds.items()}
    found = [Template(words, tuple(sorted(lines))) for words, lines in _endings(kinds, shapes).items()]
    return sorted(found, key=lambda template: (-len(template.lines), template.words))


def is_plain(word: str) -> bool:
    """Whether a word is one of a language rather than a name or a value."""
    return _PLAIN.match(word) is not None


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


def _own(words: Words, *but: int) -> int:
    """How many words are the kind's own, apart from some places."""
    return sum(place not in but and any(map(str.isalpha, word)) for place, word in enumerate(words))


def _single(kinds: Kinds, length: int, before: Collection[str]) -> Kinds:
    """Kinds that differ in one place where values stand are one."""
    while True:
        holes: defaultdict[Words, set[int]] = defaultdict(set)
        for place in range(length):
            alike: defaultdict[Words, dict[str, Words]] = defaultdict(dict)
            for words in kinds:
                alike[words[:place] + words[place + 1 :]][words[place]] = words
            for found in alike.values():
                some = next(iter(found.values()))
                counts = {word: len(kinds[words]) for word, words in found.items()}
                known = _own(some, place) or (len(found) >= 2 * _MANY and len(some) > 1)
                if len(found) > 1 and known and _are_values(counts, place, some, before):
                    for words in found.values():
                        holes[words].add(place)
        if not holes:
            return kinds
        merged: Kinds = defaultdict(list)
        for words, lines in kinds.items():
            merged[tuple(HOLE if i in holes[words] else word for i, word in enumerate(words))] += lines
        kinds = dict(merged)


def _are_values(counts: Mapping[str, int], place: int, words: Words, before: Collection[str]) -> bool:
    """Whether words seen at one place, with the same words around, are values."""
    if any(HOLE in word for word in counts):
        return True
    many, once = len(counts), sum(count == 1 for count in counts.values())
    own = _own(words, place)
    if own > 1 and many >= (_SOME if place else _FIRST):
        return True  # as many messages would hardly differ in one word
    if own and many >= _STATES and all(word.isupper() for word in counts):
        return True  # states
    odd = not all(map(is_plain, counts))
    front = words[place - 1] if place else ""
    expected = front in before or front.endswith("=")
    if many >= (_SOME if place else _FIRST) and (many >= _MANY or once or expected or odd):
        return True
    if place and once >= _RARE * sum(counts.values()) and (many >= _SOME - 1 or expected or odd):
        return True
    return expected and (odd or many >= _SOME - 1)


def _double(kinds: Kinds, length: int) -> Kinds:
    """Kinds that differ in two places, with more pairs of words there than kinds would have."""
    changed = True
    while changed and len(kinds) < _CROWD:
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
    least = 1 if len(found) >= _MANY else max(2, len(found[0]) // 3)
    if len(found) < 3 or _own(found[0], first, second) < least:
        return False
    if min(len({words[place] for words in found}) for place in (first, second)) < 2:
        return False
    counts = [len(kinds[words]) for words in found]
    return len(found) >= _MANY or counts.count(1) >= _RARE * sum(counts)


def _agreeing(kinds: Kinds, length: int) -> Kinds:
    """Kinds that say nothing against each other: wherever they differ, one of them has a value."""
    hollow = sorted((words for words in kinds if HOLE in words), key=lambda words: (-words.count(HOLE), words))
    if len(kinds) > _FEW:
        return kinds
    for one in hollow:
        for other in sorted(kinds) if one in kinds else ():
            if one == other or one not in kinds or other not in kinds:
                continue
            pairs = list(zip(one, other, strict=True))
            same = tuple(ours for ours, theirs in pairs if ours == theirs)
            agree = all(ours == theirs or HOLE in (ours, theirs) for ours, theirs in pairs)
            if agree and _own(same) >= max(2, length / 2):
                both = tuple(ours if ours == theirs else HOLE for ours, theirs in pairs)
                lines = kinds.pop(one) + kinds.pop(other)
                kinds[both] = kinds.get(both, []) + lines
                one = both
    return kinds


def _endings(kinds: Kinds, shapes: Sequence[Words]) -> Kinds:
    """Values of several words: what follows the same beginning is nearly always something else."""
    left: Kinds = defaultdict(list)
    for words, lines in kinds.items():
        left[squeezed(words)] += lines
    begin: defaultdict[Words, list[Words]] = defaultdict(list)
    for words in left:
        for length in range(1, len(words) + 1):
            begin[words[:length]].append(words)
    for head in sorted(begin, key=lambda words: (len(words), words)):
        found = [words for words in begin[head] if words in left]
        if len(found) > 1 and _ends_openly(head, found, left, shapes):
            lines = [line for words in found for line in left.pop(words)]
            whole = squeezed((*head, HOLE))
            left[whole] = left.get(whole, []) + lines
    return left


def _ends_openly(head: Words, found: Sequence[Words], kinds: Kinds, shapes: Sequence[Words]) -> bool:
    own = _own(head)
    introduces = own >= 3 or (own and head[-1].endswith((":", ",", "=", HOLE)))
    if not introduces or len({len(words) for words in found}) < 2:
        return False
    tails = Counter(shapes[line][len(head) :] for words in found for line in kinds[words])
    total, once = tails.total(), sum(count == 1 for count in tails.values())
    if sum(count for tail, count in tails.items() if _is_value(tail)) < _MOSTLY * total:
        return False
    if len({tail[:1] for tail in tails}) < _SOME:
        return False  # few words there are words of different kinds
    if own > 1 and head[-1].endswith((":", ",")) and len(tails) > _SOME:
        return True  # behind what introduces a value, as many phrases are values, however often they come
    hollow = any(set(words[len(head) :]) == {HOLE} for words in found)
    return once >= (2 if hollow else 5) and once >= (0.2 if hollow else _RARE) * total


def _is_value(tail: Words) -> bool:
    return len(tail) <= _TAIL and all(HOLE in word or is_plain(word) for word in tail)
