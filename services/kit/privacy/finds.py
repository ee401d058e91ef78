"""What detectors find: where, of what kind, and as what it is known however it was written."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from services.kit import patterns
from services.kit.privacy.folding import Folded


class Find(NamedTuple):
    """Personal data from `start` to `end` of a text; `value` is the same for each way to write it."""

    start: int
    end: int
    detector: str
    value: str


Detector = Callable[[Folded], Iterator[Find]]
DIGITS = b"0123456789"
_WORD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_\x80")


def digits(found: bytes) -> str:
    """The digits of what was found."""
    return bytes(byte for byte in found if byte in DIGITS).decode()


def runs(pattern: bytes, folded: Folded) -> Iterator[tuple[int, int]]:
    """Where a pattern is found in what is seen, each at its leftmost."""
    for match in patterns.octets(pattern).finditer(folded.seen):
        yield match.span()


def alone(seen: bytes, start: int, end: int) -> bool:
    """Whether no letter or digit touches what was found, and no digit behind a point or a dash."""
    if start and seen[start - 1] in _WORD:
        return False
    if start > 1 and seen[start - 1] in b".-,/" and seen[start - 2] in DIGITS and seen[start] in DIGITS:
        return False
    if end < len(seen) and seen[end] in _WORD:
        return False
    return not (end + 1 < len(seen) and seen[end] in b"-./" and seen[end + 1] in DIGITS and seen[end - 1] in DIGITS)


def apart(finds: Iterable[Find]) -> list[Find]:
    """Finds that do not overlap, by place: of two that do, the one that begins first, then the longer one stays."""
    kept: list[Find] = []
    for find in sorted(finds, key=lambda find: (find.start, -find.end)):
        if not kept or find.start >= kept[-1].end:
            kept.append(find)
    return kept
