"""Whether words at one place of lines, with the same words around, are values or the kinds' own. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from services.data.discovery import defaults as d
from services.data.discovery.words import HOLE, Words

_PLAIN = re.compile(r"[A-Za-z][a-z'-]*[.,:;!?]?\Z")
_SIGNS = "\"'.,:;()[]{}<>="
_FRONT, _BACK = re.compile(r".*[:=(\[{<\"'@#]"), re.compile(r"[)\]}>\"',;:.].*")


def is_plain(word: str) -> bool:
    """Whether a word is one of a language rather than a name or a value."""
    return _PLAIN.match(word) is not None


def own(words: Words, *but: int) -> int:
    """How many words are the kind's own, apart from some places."""
    return sum(place not in but and any(map(str.isalpha, word)) for place, word in enumerate(words))


def is_open(counts: Mapping[str, int] | Mapping[Words, int]) -> bool:
    """Whether more words are to come, by how many there are and how many were seen once; counts are of lines."""
    many, once, total = len(counts), sum(count == 1 for count in counts.values()), sum(counts.values())
    return many >= d.MANY or (many >= d.SOME and once >= d.UNSEEN * total)


def are_values(counts: Mapping[str, int], place: int, words: Words, before: Collection[str]) -> bool:
    """Whether words at a place are values. `before`: the words that values follow in other kinds."""
    if any(word.strip(_SIGNS) == HOLE for word in counts) or is_open(counts):
        return True
    if all(HOLE in word and "=" in word for word in counts):
        return False  # keys with their values: few of them are the kinds' own
    many, around = len(counts), own(words, place)
    if _stand_where_values_stand(counts, words[place - 1] if place else "", before):
        return True
    if around > d.OWN and many >= d.STATES and all(word.isupper() for word in counts):
        return True
    if all(word.strip('"[(') in d.METHODS for word in counts):
        return True
    if _are_names(counts):
        return many >= (d.NAMES if place else d.NAMES_FIRST) and (around > d.OWN or place > 0)
    if not place:
        return around > d.OWN_FIRST and many >= d.PLAIN_FIRST
    return around > d.OWN and many >= d.PLAIN - (around > d.STRONG)


def common(words: Iterable[str]) -> str:
    """What words have in common in front and behind, up to a sign, with a HOLE between."""
    known = list(words)
    front = _beginning(known)
    back = _beginning([word[len(front) :][::-1] for word in known])[::-1]
    begin, end = _FRONT.match(front), _BACK.search(back)
    return (begin[0] if begin else "") + HOLE + (end[0] if end else "")


def _beginning(words: Sequence[str]) -> str:
    first, last = min(words), max(words)
    return first[: next((place for place, char in enumerate(first) if last[place : place + 1] != char), len(first))]


def _stand_where_values_stand(counts: Mapping[str, int], front: str, before: Collection[str]) -> bool:
    if front in before or front.endswith("="):
        return len(counts) >= d.EXPECTED or _are_names(counts)
    return front.strip(_SIGNS).lower() in d.INTRODUCING and len(counts) >= d.EXPECTED


def _are_names(counts: Collection[str]) -> bool:
    """Whether most words are of no language."""
    return 2 * sum(not is_plain(word) and HOLE not in word for word in counts) > len(counts)
