"""Text in the form that detectors read: one byte for each character, in any script.

Full-width and mathematical letters, digits of any script, Unicode's dashes, dots and spaces become their ASCII ones;
invisible characters (joiners, marks, soft hyphens) are left out. The place of each byte's character is known, so that
exactly what was found is replaced.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# Letters that ASCII does not have, and all else that it does not have.
LETTER, OTHER = "\x80", "\x81"
_UNSEEN = "\x00"
_DASHES = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u30fc\ufe58\ufe63\uff0d\xad")
_DOTS = frozenset("\u3002\uff0e\uff61\u2024\ufe52")
_QUOTES = frozenset("\u2018\u2019\u02bc\u2032\uff07")
_INVISIBLE = frozenset({"Mn", "Me", "Cf"})


class _Table(dict[int, str]):
    """What each character becomes; computed when it first occurs."""

    def __missing__(self, code: int) -> str:
        found = self[code] = _folded(chr(code))
        return found


def _folded(char: str) -> str:
    if char.isascii():
        return OTHER if char == _UNSEEN else " " if char in "\t\r\v\f" else char
    kind = unicodedata.category(char)
    if char == "\xad" or kind in _INVISIBLE:
        return _UNSEEN
    if char in _DASHES or kind == "Pd":
        return "-"
    if char in _DOTS:
        return "."
    if char in _QUOTES:
        return "'"
    if kind in ("Zs", "Zl", "Zp"):
        return " "
    if (digit := unicodedata.decimal(char, None)) is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", char)
    if len(plain) == 1 and plain.isascii():
        return plain
    return LETTER if kind[0] == "L" or kind == "Mc" else OTHER


_TABLE = _Table()


@dataclass(frozen=True, slots=True)
class Folded:
    """A text, and its form for detectors."""

    text: str
    seen: bytes
    # Where each byte's character stands in the text; None: at the same place.
    _places: Sequence[int] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The place in the text of the bytes from `start` to `end`, which is after `start`."""
        if self._places is None:
            return start, end
        return self._places[start], self._places[end - 1] + 1

    def original(self, start: int, end: int) -> str:
        """The text of the bytes from `start` to `end`."""
        first, last = self.span(start, end)
        return self.text[first:last]


def fold(text: str) -> Folded:
    """A text in the form for detectors. Takes time linear in its length."""
    if text.isascii() and "\0" not in text:
        return Folded(text, text.encode("ascii").translate(_SPACES))
    seen = text.translate(_TABLE)
    if _UNSEEN not in seen:
        return Folded(text, seen.encode("latin-1"))
    places = [place for place, char in enumerate(seen) if char != _UNSEEN]
    return Folded(text, seen.replace(_UNSEEN, "").encode("latin-1"), places)


_SPACES = bytes.maketrans(b"\t\r\v\f", b"    ")
