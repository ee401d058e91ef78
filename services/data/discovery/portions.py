"""Which lines of each kind are looked at, so that any source is answered in time. Pure."""

import random
from collections.abc import Sequence

from services.data.discovery.headers import Header
from services.data.discovery.templates import Template
from services.data.discovery.words import HOLE

MOST = 2000  # lines of a kind
LONGEST = 2**14  # characters of a line
# What RE2 needs for a line grows with its characters times its groups: so many in all are about 3 s on one core.
# Each line is matched three times.
_WORK = 10**8
_EVER = 100  # characters that any line costs


def chosen(kinds: Sequence[Template], fronts: Sequence[Header], lines: Sequence[str]) -> list[list[int]]:
    """The numbers of lines of each kind: all, or as many as there is time for, chosen by chance; none too long.

    Kinds that need little leave what they do not need to the others.
    """
    found = [[line for line in kind.lines if len(lines[line]) <= LONGEST] for kind in kinds]
    each = list[float]()
    for kind, front, own in zip(kinds, fronts, found, strict=True):
        groups = 1 + len(front.kinds) + sum(word.count(HOLE) for word in kind.words)
        each.append(groups * (_EVER + sum(len(lines[line]) for line in own) / max(len(own), 1)))
    left = float(_WORK)
    places = sorted(range(len(kinds)), key=lambda place: min(len(found[place]), MOST) * each[place])
    for done, place in enumerate(places):
        most = min(MOST, int(left / (len(places) - done) / each[place]))
        if len(found[place]) > most:
            found[place] = sorted(random.Random(0).sample(found[place], most))
        left -= len(found[place]) * each[place]
    return found
