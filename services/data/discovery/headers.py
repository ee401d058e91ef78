"""What stands in front of the messages of a log: when, who, how grave. Found by what all lines have in common. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.data.discovery.words import HOLE, words_of

_MOST = 14  # words that may stand in front
_ALL, _NEARLY, _MOSTLY = 0.98, 0.95, 0.9  # of the lines
_NEAR = 4  # words within which a separator stands
_NAMES = 3  # that may follow the rest
_SEPARATORS = (" - ", " | ")
_WORD = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]:?|[^\s|]+|\|")
_OPENING = ("[", "(", "<")
_CLOCK = re.compile(r"\d\d[:.]\d\d|\d{4}-\d\d|\d{6}")
_BEHIND = re.compile(r"\S*\s*")
_GAP = re.compile(r"[ \t]*")
_COLUMN = re.compile(r"(\S{1,40}(?: \S{1,40}){0,2}?)(?: {2,}|\t)[ \t]*(?=\S)")


class Kind(StrEnum):
    """What a word in front looks like."""

    LEVEL = "level"
    TIME = "time"
    BRACKET = "context"
    NAME = "component"  # ends with a colon or a process id
    SEPARATOR = "separator"
    COLUMN = "column"  # up to three words, filled up with spaces or ended by a tab
    WORD = "word"


_KINDS = (
    (
        Kind.LEVEL,
        re.compile(
            r"(?i)\W?(trace|debug|info|notice|warn|warning|error|err|fatal|critical|crit|alert|emerg|severe|fine|panic"
            r"|[vdiwef])\W{0,2}\Z"
        ),
    ),
    (Kind.SEPARATOR, re.compile(r"[-|]\Z")),
    (Kind.BRACKET, re.compile(r"(?:\[.*\]|\(.*\)|<.*>):?\Z")),
    (
        Kind.TIME,
        re.compile(
            r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Mon|Tue|Wed|Thu|Fri|Sat|Sun),?\Z"
            r"|[A-Z]?\d[\d:.,/TZ+_-]*\Z"
        ),
    ),
    (Kind.NAME, re.compile(r".*[:\]]\Z")),
)


@dataclass(frozen=True)
class Header:
    """The words in front of every message, and the separator behind them where it stands not always at one place."""

    kinds: tuple[Kind, ...] = ()
    separator: str = ""

    def content(self, line: str) -> str | None:
        """The message; None for a line with another beginning."""
        rest = line
        for kind in self.kinds:
            rest = _GAP.sub("", rest, count=1)
            word = (_COLUMN.match(rest) if kind is Kind.COLUMN else None) or _WORD.match(rest)
            if word is None or (kind is Kind.BRACKET and not rest.startswith(_OPENING)):
                return None
            rest = rest[word.end() :]
        rest = _GAP.sub("", rest, count=1)
        if not self.separator:
            return rest
        _, found, rest = rest.partition(self.separator)
        return rest.lstrip(" ") if found else None


def find(lines: Sequence[str]) -> Header:
    """The header that nearly all lines have; an empty one where there is none."""
    header = Header(_leading(lines))
    if not header.kinds:
        return header
    rests = [rest for line in lines if (rest := header.content(line)) is not None]
    for separator in _SEPARATORS:
        ends = [rest.find(separator) for rest in rests]
        near = sum(end >= 0 and rest.count(" ", 0, end) < _NEAR for end, rest in zip(ends, rests, strict=True))
        if near >= _ALL * len(lines):
            return Header(header.kinds, separator)
    kinds = list(header.kinds)
    while len(kinds) < _MOST and sum(_COLUMN.match(rest) is not None for rest in rests) >= _NEARLY * len(lines):
        kinds.append(Kind.COLUMN)
        rests = [rest[found.end() :] if (found := _COLUMN.match(rest)) else _behind(rest) for rest in rests]
    for _ in range(_NAMES):
        if not _is_name(rests):
            break
        kinds.append(Kind.WORD)
        rests = [_behind(rest) for rest in rests]
    return Header(tuple(kinds))


def _leading(lines: Sequence[str]) -> tuple[Kind, ...]:
    """Words at the same place in nearly all lines that look like no message; a name counts if one of them follows."""
    columns = [[found[0] for found, _ in zip(_WORD.finditer(line), range(_MOST), strict=False)] for line in lines]
    kinds: list[Kind] = []
    sure = spoken = 0
    most, all_ = _MOSTLY * len(lines), _ALL * len(lines)
    for place in range(_MOST):
        counts = Counter(_kind(column[place]) for column in columns if len(column) > place)
        if not lines or counts.total() < all_:
            break
        kind, count = counts.most_common(1)[0]
        spoken = spoken + 1 if _is_spoken([column[place] for column in columns if len(column) > place]) else 0
        if sure and spoken > (Kind.LEVEL not in kinds):
            break  # a message that all lines have; in front of the level a host may have such a name
        if sum("=" in column[place] for column in columns if len(column) > place) >= most:
            break  # keys with their values are what is said
        # What only some lines have at the place of a separator is a word of its own, like the mark of an alert.
        kinds.append(Kind.WORD if kind is Kind.SEPARATOR and count < len(lines) else kind)
        if kind is Kind.WORD and count >= most:
            continue
        if kind is not Kind.WORD and count >= (all_ if kind is Kind.SEPARATOR else most):
            sure = place + 1
        elif count + counts[Kind.WORD] < most:
            break
    timed = sum(_CLOCK.search(" ".join(column[:sure])) is not None for column in columns)
    return tuple(kinds[:sure]) if timed >= most or Kind.LEVEL in kinds[:sure] else ()


def _is_spoken(words: Sequence[str]) -> bool:
    """Whether nearly all are the same word of a language; one of those may be the name of a host."""
    word, count = Counter(words).most_common(1)[0]
    return word.isalpha() and word.islower() and count >= _ALL * len(words)


def _kind(word: str) -> Kind:
    return next((kind for kind, pattern in _KINDS if pattern.match(word)), Kind.WORD)


def _behind(rest: str) -> str:
    return _BEHIND.sub("", rest, count=1)


def _is_name(rests: Sequence[str]) -> bool:
    """Whether the first word is a name that what follows does not depend on: the same goes with several names."""
    behind: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    names = Counter[str]()
    for rest in rests:
        name = rest.partition(" ")[0]
        names[name] += 1
        behind[words_of(_behind(rest))][name] += 1
    repeated = [counts for counts in behind.values() if counts.total() > 1]
    total = sum(counts.total() for counts in repeated)
    mixed = sum(counts.total() for counts in repeated if len(counts) > 1)
    few = 1 < len(names) <= 0.02 * total + 20
    plain = not any(HOLE in word for name in names for word in words_of(name))
    return few and plain and total >= 0.5 * len(rests) and mixed > 0.5 * total
