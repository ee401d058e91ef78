"""Frequent names, in their scripts; `names.json` says where they are from."""

import json
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_LATIN = {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe"}
_PLAIN = str.maketrans({**_LATIN, "\u0131": "i", "\u0451": "\u0435"})
_APOSTROPHES = str.maketrans("\u2019\u02bc\u2018", "'''")


class Names(NamedTuple):
    """Plain forms of given and family names, of those that are also everyday words, and of words beside names."""

    given: frozenset[str]
    family: frozenset[str]
    words: frozenset[str]
    titles: frozenset[str]
    particles: frozenset[str]  # between the parts of a name
    beside: frozenset[str]  # capitalised words beside names that are not part of them


class East(NamedTuple):
    """Names that are written without spaces, the family name first."""

    family: frozenset[str]
    given: frozenset[str]


def plain(word: str) -> str:
    """A word as it is looked up: in small letters, without diacritics."""
    bare = unicodedata.normalize("NFKD", word.casefold().translate(_PLAIN)).translate(_APOSTROPHES)
    return "".join(char for char in bare if unicodedata.category(char) not in ("Mn", "Me", "Cf"))


@cache
def _document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "names.json").read_text(encoding="utf-8"))
    return found


@cache
def names() -> Names:
    """Names whose parts are separated by spaces."""
    found = _document()
    given, family = (" ".join(found[kind].values()) for kind in ("given", "family"))
    texts = (given, family, *(found[kind] for kind in ("words", "titles", "particles", "beside")))
    return Names(*(frozenset(plain(word) for word in text.split()) for text in texts))


@cache
def east() -> tuple[East, ...]:
    """Chinese, Japanese, Korean."""
    found = _document()["east"]
    return tuple(
        East(frozenset(found[f"{country}_family"].split()), frozenset(found[f"{country}_given"].split()))
        for country in ("chinese", "japanese", "korean")
    )
