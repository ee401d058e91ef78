"""What detectors find: where it is, its kind, and its value in one form."""

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
    """The places where a pattern matches the folded text, from left to right."""
    for match in patterns.octets(pattern).finditer(folded.seen):
        yield match.span()


def alone(seen: bytes, start: int, end: int) -> bool:
    """Whether what was found is not part of a longer word or number; points and dashes join digits."""
    if start and seen[start - 1] in _WORD:
        return False
    if start > 1 and seen[start - 1] in b".-,/" and seen[start - 2] in DIGITS and seen[start] in DIGITS:
        return False
    if end < len(seen) and seen[end] in _WORD:
        return False
    return not (end + 1 < len(seen) and seen[end] in b"-./" and seen[end + 1] in DIGITS and seen[end - 1] in DIGITS)


def apart(finds: Iterable[Find]) -> list[Find]:
    """Finds without overlaps, in order: of two that overlap the one that begins first stays, then the longer one."""
    kept: list[Find] = []
    for find in sorted(finds, key=lambda find: (find.start, -find.end)):
        if not kept or find.start >= kept[-1].end:
            kept.append(find)
    return kept
