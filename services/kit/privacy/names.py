"""Names of people, found by a dictionary and by their context: a title, an initial, another part of the name."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from services.kit.privacy.dictionary import names, plain
from services.kit.privacy.eastern import eastern
from services.kit.privacy.finds import Find, apart, runs
from services.kit.privacy.folding import Folded

_TOKEN = rb"[A-Za-z\x80]+(?:['-][A-Za-z\x80]+)*"


class _Token(NamedTuple):
    start: int
    end: int
    key: str
    given: bool
    family: bool
    word: bool  # also an everyday word
    capital: bool  # begins with a capital letter, or its script has none
    cased: bool

    @property
    def known(self) -> bool:
        return self.given or self.family

    @property
    def strong(self) -> bool:
        return self.known and not self.word and self.capital


def people(folded: Folded) -> Iterator[Find]:
    """Two neighbouring words of the dictionary, or one that is no everyday word; with what belongs to the name."""
    found = [*_western(folded), *(eastern(folded.text) if not folded.seen.isascii() else ())]
    yield from apart(found)


def _western(folded: Folded) -> Iterator[Find]:
    tokens = [_token(folded, start, end) for start, end in runs(_TOKEN, folded)]
    place = 0
    while place < len(tokens):
        if tokens[place].key in names().titles and (titled := _titled(folded.seen, tokens, place)) > place:
            yield _find(folded, tokens[place + 1 : titled + 1])
            place = titled + 1
            continue
        if not (tokens[place].known or tokens[place].capital):
            place += 1
            continue
        last = _chain(folded.seen, tokens, place)
        if last is None:
            place += 1
            continue
        yield _find(folded, tokens[place : last + 1])
        place = last + 1


def _token(folded: Folded, start: int, end: int) -> _Token:
    return _Token(start, end, *_looked_up(folded.original(start, end)))


@lru_cache(maxsize=20_000)
def _looked_up(written: str) -> tuple[str, bool, bool, bool, bool, bool]:
    key, held = plain(written), names()
    given = key in held.given or key.partition("-")[0] in held.given
    family = key in held.family or key.rpartition("-")[2] in held.family
    cased = written[:1].lower() != written[:1].upper()
    return key, given, family, key in held.words, written[:1].isupper() or not cased, cased


def _beside(seen: bytes, left: _Token, right: _Token) -> bool:
    """Whether two words can be parts of one name: between them is a space, and after an initial also a point."""
    between = seen[left.end : right.start]
    return between in (b" ", b"  ") or (between in (b". ", b".") and left.end - left.start == 1)


def _titled(seen: bytes, tokens: Sequence[_Token], title: int) -> int:
    """The place of the last of up to three capitalised words after a title."""
    last = title
    while last + 1 < len(tokens) and last - title < 3:
        left, right = tokens[last], tokens[last + 1]
        between = seen[left.end : right.start]
        near = _beside(seen, left, right) or (last == title and between in (b". ", b"."))
        if not near or right.key in names().beside or not right.capital or not (right.cased or right.known):
            break
        last += 1
    return last


def _chain(seen: bytes, tokens: Sequence[_Token], first: int) -> int | None:
    """The place of the last word of the name that begins at `first`; None if none begins there."""
    last = first
    while last + 1 < len(tokens) and last - first < 6 and _belongs(seen, tokens, first, last):
        last += 1
    while last > first and _trails(tokens[last]):
        last -= 1
    return last if _is_name(tokens[first : last + 1]) else None


def _trails(token: _Token) -> bool:
    """Whether a name cannot end with a word."""
    held = names()
    return token.key in held.beside or (token.key in held.particles and not token.family)


def _belongs(seen: bytes, tokens: Sequence[_Token], first: int, last: int) -> bool:
    """Whether the word after `last` is part of the name."""
    left, right = tokens[last], tokens[last + 1]
    turned = seen[left.end : right.start] == b", " and last == first and left.family and right.given and right.capital
    if turned:
        return True
    if not _beside(seen, left, right) or right.key in names().beside or left.key in names().beside:
        return False
    if right.known:
        return right.capital == left.capital or left.key in names().particles
    initial = right.end - right.start == 1 and right.capital and right.cased
    return (
        initial
        or right.key in names().particles
        or (right.cased and right.capital and (left.capital or left.key in names().particles))
    )


def _is_name(parts: Sequence[_Token]) -> bool:
    if parts[0].key in names().beside or (parts[0].key in names().particles and not parts[0].known):
        return False
    if len(parts) == 1:
        return parts[0].strong
    known = [part for part in parts if part.known]
    if not parts[0].known and not any(part.strong and part.family for part in parts[1:3]):
        return False
    if any(part.strong for part in known) and (parts[0].strong or len(known) > 1 or parts[0].capital):
        return True
    pair = parts[0].given and any(part.family for part in parts[1:])
    return pair and (all(part.capital for part in known) or not all(part.word for part in known))


def _find(folded: Folded, parts: Sequence[_Token]) -> Find:
    start, end = folded.span(parts[0].start, parts[-1].end)
    return Find(start, end, "name", " ".join(part.key for part in parts))
