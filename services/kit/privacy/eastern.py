"""Chinese, Japanese and Korean names, which are written without spaces."""

import re
from collections.abc import Iterator

from services.kit.privacy.dictionary import East, east
from services.kit.privacy.finds import Find

_LETTERS = "[\u3005\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
_RUN = re.compile(f"{_LETTERS}(?:[ \u3000\u00b7]{_LETTERS})*")
_BETWEEN = " \u3000\u00b7"
_LONGEST = 3  # characters of a family name, and of a given name


def eastern(text: str) -> Iterator[Find]:
    """Family names of the dictionary, each with a given name after it."""
    for run in _RUN.finditer(text):
        place, end = run.span()
        while place < end:
            found = next((size for kind in east() if (size := _length(kind, text, place, end))), 0)
            if found:
                value = "".join(char for char in text[place : place + found] if char not in _BETWEEN)
                yield Find(place, place + found, "name", value)
            place += found or 1


def _length(kind: East, text: str, start: int, end: int) -> int:
    """The length of the name that begins at `start`; 0 if none begins there."""
    if "\uac00" <= text[start] <= "\ud7af" and start and "\uac00" <= text[start - 1] <= "\ud7af":
        return 0  # in the middle of a Korean word
    for size in range(min(_LONGEST, end - start), 0, -1):
        behind = start + size
        if text[start:behind] not in kind.family or behind >= end:
            continue
        behind += text[behind] in _BETWEEN
        for more in range(min(_LONGEST, end - behind), 0, -1):
            given = text[behind : behind + more]
            if given in kind.given or (more == 2 and _composed(kind, given)):
                return behind + more - start
    return 0


def _composed(kind: East, given: str) -> bool:
    """Whether both characters are given names themselves, as those of Chinese names may be."""
    return given[0] in kind.given and given[1] in kind.given
