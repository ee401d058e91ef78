"""Control characters in lines: learnt as marks that no line has, and said in patterns by their numbers. Pure.

What looks for words keeps two of them for itself, and RE2 and Python do not agree on which of them are spaces.
"""

import re
from collections.abc import Iterable, Sequence

# But for tab, line feed, form feed and carriage return, which are spaces everywhere.
_CONTROLS = [code for code in (*range(0x20), 0x7F) if chr(code) not in "\t\n\f\r"]
_CONTROL = re.compile(f"[{''.join(map(re.escape, map(chr, _CONTROLS)))}]")
_PRIVATE = range(0xE000, 0xF800, 0x80)  # blocks of characters that mean nothing


class Controls:
    """The marks for some lines."""

    def __init__(self, lines: Sequence[str]) -> None:
        there = any(map(_CONTROL.search, lines))
        used = {ord(char) // 0x80 for line in lines for char in set(line)} if there else set[int]()
        free = next((block for block in _PRIVATE if block // 0x80 not in used), _PRIVATE[0])
        codes = _CONTROLS if there else ()
        self._marks = {code: free + code for code in codes}
        self._said = {free + code: f"\\x{code:02x}" for code in codes}

    def marked(self, lines: Iterable[str]) -> list[str]:
        """Lines with marks instead of control characters."""
        return [line.translate(self._marks) if self._marks else line for line in lines]

    def said(self, text: str) -> str:
        """A pattern or a text of marked lines with the numbers of the characters: `\\x00`, as RE2 reads it."""
        return text.translate(self._said) if self._said else text
