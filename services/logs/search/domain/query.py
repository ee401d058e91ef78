"""The tree of a query, and the words of a text."""

import re
import struct
from dataclasses import dataclass

_WORD = re.compile(r"\w+")
_LONGEST = 64
# Fields that match as a whole, not by words.
KEYWORDS = ("kind", "severity", "service", "name", "request_id", "trace_id", "model", "status")
NUMBERS = ("version", "duration_ms")
ATTRIBUTES = "attributes."


@dataclass(frozen=True)
class All:
    """Every record."""


@dataclass(frozen=True)
class Words:
    """Consecutive words of the text; with `prefix`, the beginning of a word."""

    words: tuple[str, ...]
    prefix: bool = False


@dataclass(frozen=True)
class Field:
    """A field that equals a value, or begins with it."""

    name: str
    value: str
    prefix: bool = False


@dataclass(frozen=True)
class Range:
    """A field that is a number between bounds; None: no bound."""

    name: str
    low: float | None
    high: float | None
    with_low: bool = True
    with_high: bool = True


@dataclass(frozen=True)
class Not:
    """Records that another query does not match."""

    query: "Query"


@dataclass(frozen=True)
class And:
    """Records that all queries match."""

    queries: tuple["Query", ...]


@dataclass(frozen=True)
class Or:
    """Records that any query matches."""

    queries: tuple["Query", ...]


Query = All | Words | Field | Range | Not | And | Or


def words_of(text: str) -> list[str]:
    """The words of a text: letters, digits and underscores, in lower case, cut at 64 characters."""
    return [found[:_LONGEST] for found in _WORD.findall(text.lower())]


def number(text: str) -> float | None:
    """A text as a finite number; None if it is none."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found + 0.0 if abs(found) != float("inf") and found == found else None


def sortable(value: float) -> str:
    """A number as 16 hex digits with the same order."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", value + 0.0))
    return f"{bits ^ (2**64 - 1) if bits >> 63 else bits | 1 << 63:016x}"
