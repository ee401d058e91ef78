"""Values of several words, found by the words around them. Pure."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from services.data.discovery import defaults as d
from services.data.discovery.slots import is_open, is_plain, own
from services.data.discovery.words import HOLE, Words, squeezed

Kinds = dict[Words, list[int]]


def inside(kinds: Kinds) -> Kinds:
    """Kinds with values of one or several words in front of their own words, or between them, are one."""
    kinds = dict(kinds)
    around: defaultdict[tuple[Words, Words], list[Words]] = defaultdict(list)
    for words in kinds if len(kinds) < d.CROWD else ():
        for begin in range(len(words)):
            for end in range(begin + 1, min(len(words), begin + 1 + d.PHRASE)):
                if not _is_said(words[end - 1]):
                    break
                around[words[:begin], words[end:]].append(words)
    for (front, back), alike in sorted(around.items(), key=lambda item: (-len(item[1]), item[0])):
        found = [words for words in alike if words in kinds]
        if len(found) < 3 or len({len(words) for words in found}) < 2 or own((*front, *back)) <= d.OWN:
            continue
        if _are_open({words[len(front) : len(words) - len(back)]: len(kinds[words]) for words in found}):
            _join(kinds, found, (*front, HOLE, *back))
    return kinds


def at_the_end(kinds: Kinds, shapes: Sequence[Words]) -> Kinds:
    """Kinds whose beginning is followed by nearly always other words are one. `shapes` are the words of the lines."""
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
            _join(left, found, squeezed((*head, HOLE)))
    return left


def _join(kinds: Kinds, found: Sequence[Words], whole: Words) -> None:
    lines = [line for words in found for line in kinds.pop(words)]
    kinds[whole] = kinds.get(whole, []) + lines


def _is_said(word: str) -> bool:
    return word == HOLE or word.rstrip("'s").isalpha()


def _are_open(phrases: dict[Words, int]) -> bool:
    others = {words: count for words, count in phrases.items() if set(words) != {HOLE}}
    if is_open(others):
        return True
    once = sum(count == 1 for count in others.values())
    return len(others) < len(phrases) and len(others) > d.HOLLOW and once >= d.HOLLOW_ONCE * sum(others.values())


def _ends_openly(head: Words, found: Sequence[Words], kinds: Kinds, shapes: Sequence[Words]) -> bool:
    known = own(head)
    introduces = known > d.OWN_FIRST or (known and head[-1].endswith((":", ",", "=", HOLE)))
    if not introduces or len({len(words) for words in found}) < 2:
        return False
    tails = Counter(shapes[line][len(head) :] for words in found for line in kinds[words])
    total, once = tails.total(), sum(count == 1 for count in tails.values())
    if sum(count for tail, count in tails.items() if _is_value(tail)) < d.VALUES * total:
        return False
    if len({tail[:1] for tail in tails}) < d.PHRASES:
        return False  # few words there are words of different kinds
    if known > d.OWN_FIRST and head[-1].endswith((":", ",")) and len(tails) > d.PHRASES:
        return True
    if any(set(words[len(head) :]) == {HOLE} for words in found):
        return once >= d.HOLLOW and once >= d.HOLLOW_ONCE * total
    return once >= d.TAILS and once >= d.TAILS_ONCE * total


def _is_value(tail: Words) -> bool:
    if len(tail) == 1:
        return True
    return len(tail) <= d.TAIL and all(HOLE in word or word.strip(",;.").isalpha() or is_plain(word) for word in tail)
