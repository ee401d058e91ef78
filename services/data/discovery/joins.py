"""Keys of sources and joins between them, found by what their values and names have in common. Pure.

A key is a column whose values are all there, all different, and look like names of things. Another column refers to it
if its values are among the key's, and either its name says so or that can hardly be by chance.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import log10
from typing import Any

from services.data.discovery.domain import wilson
from services.data.schema import quoted

MOST_KEYS, MOST_JOINS = 200, 100
_LEAST = 3  # records of a source with a key
_SURE = 0.6  # what speaks for a join, from 0 to 1
_NAMED, _UNNAMED = 0.5, 0.9  # of the values of a column are among the key's, if its name says so, or not
_FEW, _TRIED = 100, 1000  # values
_SHOWN, _LONGEST = 3, 100  # values, and their characters
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z")
# Words of names that say that something is a key, and not of what.
_KEYS = frozenset(["code", "fk", "guid", "id", "key", "no", "nr", "num", "number", "pk", "ref", "sk", "uuid"])


@dataclass(frozen=True)
class Key:
    """A column whose values name the records of its source."""

    source: str
    column: str
    records: int
    reason: str


@dataclass(frozen=True)
class Join:
    """A column whose values are those of a key. Of `tested` values that did not help to find it, `right` are."""

    source: str
    column: str
    key_source: str
    key_column: str
    records: int
    matched: int
    tested: int
    right: int
    score: float
    sql: str
    examples: tuple[str, ...]
    counter_examples: tuple[str, ...]
    reason: str

    @property
    def precision(self) -> float:
        """right / tested; 0 of nothing."""
        return self.right / self.tested if self.tested else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the precision lies with a probability of 95 %."""
        return wilson(self.right, self.tested)


class Column:
    """The values of a column as they are compared: whole numbers as their digits, texts as they are."""

    def __init__(self, source: str, name: str, values: Sequence[Any]) -> None:
        self.source, self.name = source, name
        said = [_comparable(value) for value in values]
        self.values = [value for value in said if isinstance(value, str)]
        self.records, self.usable = len(said), bool(self.values) and False not in said
        self.distinct = dict.fromkeys(self.values) if self.usable else {}
        self.whole = self.usable and all(map(_WHOLE.match, self.distinct))
        self.numbers = sorted(map(int, self.distinct)) if self.whole else []
        self.tokens = _tokens(name)

    @cached_property
    def _mixed(self) -> list[str]:
        return random.Random(0).sample(self.values, len(self.values))

    @cached_property
    def first(self) -> list[str]:
        """Of half of the values, chosen by chance, at most 1,000, always the same: they find what it refers to."""
        return self._mixed[::2][:_TRIED]

    @cached_property
    def rest(self) -> list[str]:
        """The other half: it gives the precision."""
        return self._mixed[1::2]

    @property
    def density(self) -> float:
        """The share of the whole numbers between the least and the largest value that are there; 0 of texts."""
        return len(self.numbers) / (self.numbers[-1] - self.numbers[0] + 1) if self.numbers else 0.0


def _comparable(value: Any) -> str | bool | None:
    """A text to compare; None for no value, False for one that no key has."""
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or len(said := str(value).strip()) > 200:
        return False
    return said or None


def _tokens(name: str) -> list[str]:
    found = (token.lower() for token in _TOKEN.findall(name))
    return [token[:-3] + "y" if token.endswith("ies") else token.removesuffix("s") for token in found]


def keys(columns: Iterable[Column]) -> list[tuple[Column, Key]]:
    """The columns that are keys, for each source the likelier first."""
    found = [(_key_score(column), column) for column in columns]
    found.sort(key=lambda one: -one[0])
    return [(column, _key(column)) for score, column in found if score > 0][:MOST_KEYS]


def _key_score(column: Column) -> float:
    complete = column.usable and len(column.values) == column.records == len(column.distinct)
    if not complete or column.records < _LEAST:
        return 0.0
    named = bool(_KEYS.intersection(column.tokens)) or column.tokens == _tokens(column.source)
    if column.whole:
        return 1.0 * named + 0.5 * (column.density > 0.6)
    texts = list(column.distinct)
    if sum(map(len, texts)) > 64 * len(texts) or any(map(_TIME.match, texts)):
        return 0.0
    codes = not any(" " in text or "." in text for text in texts)
    return 1.0 * named + 0.5 * codes


def _key(column: Column) -> Key:
    said = f"all {column.records} records have a value, and no two the same"
    return Key(column.source, column.name, column.records, said)


def joins(columns: Sequence[Column], whole: frozenset[str] = frozenset()) -> list[Join]:
    """What refers to which key, best first. `whole` are the sources whose records are all there."""
    best, found = dict[Column, float](), list[tuple[float, Column, Column]]()
    for (key, _), column in product(keys(columns), columns):
        score = _score(column, key) if column.usable and column is not key else 0.0
        if score >= _SURE:
            found.append((score, column, key))
            best[column] = max(best.get(column, 0.0), score)
    found.sort(key=lambda one: (-one[0], one[1].source, one[1].name, one[2].source, one[2].name))
    kept, pairs = list[Join](), set[frozenset[Column]]()
    for score, column, key in found:
        pair = frozenset([column, key])
        if score > best[column] - 0.1 and pair not in pairs and len(kept) < MOST_JOINS:
            kept.append(_join(column, key, score, whole))
            pairs.add(pair)
    return kept


def _score(column: Column, key: Column) -> float:
    """What speaks for a reference, from 0 to 1; 0 where too few of the values are the key's."""
    name, (value, _) = _named(column, key), _by_values(column, key)
    likely, least = 1 - (1 - name) * (1 - value), _NAMED if name else _UNNAMED
    # The first few tell most columns apart: there may be many thousand pairs.
    if likely < _SURE or _share(column.first[:_FEW], key) < least - 0.2:
        return 0.0
    share = _share(column.first, key)
    return round(likely * share, 4) if share >= least else 0.0


def _join(column: Column, key: Column, score: float, whole: frozenset[str]) -> Join:
    why = _by_values(column, key)[1]
    matched = [one for one in column.values if one in key.distinct]
    missing = [one for one in column.distinct if one not in key.distinct]
    reason = f"{len(matched)} of {len(column.values)} values are among the {len(key.distinct)} of the key"
    reason += "; the name says so" if _named(column, key) else ""
    reason += f"; {why}" if why else ""
    reason += "" if key.source in whole else f"; {key.source} has more records than were read, so there may be more"
    one, other = quoted(column.source), quoted(key.source)
    sql = f"SELECT * FROM {one} LEFT JOIN {other} ON {one}.{quoted(column.name)} = {other}.{quoted(key.name)}"
    if column.source == key.source:
        sql = f"SELECT * FROM {one} AS a LEFT JOIN {one} AS b ON a.{quoted(column.name)} = b.{quoted(key.name)}"
    return Join(
        column.source,
        column.name,
        key.source,
        key.name,
        column.records,
        len(matched),
        len(column.rest),
        sum(one in key.distinct for one in column.rest),
        score,
        sql,
        tuple(one[:_LONGEST] for one in list(dict.fromkeys(matched))[:_SHOWN]),
        tuple(one[:_LONGEST] for one in missing[:_SHOWN]),
        reason,
    )


def _share(values: Sequence[str], key: Column) -> float:
    return sum(value in key.distinct for value in values) / max(len(values), 1)


def _named(column: Column, key: Column) -> float:
    """How much the name of a column says that it is of a key, from 0 to 1."""
    own = [token for token in column.tokens if token not in _KEYS]
    if column.source != key.source and own and column.tokens == key.tokens:
        return 0.9
    of = [*_tokens(key.source), *(token for token in key.tokens if token not in _KEYS)]
    known = [token for token in own if any(_same(token, other) for other in of)]
    if not known or column.source == key.source:
        return 0.0
    return 0.95 if len(known) == len(own) and len(own) < len(column.tokens) else 0.8 if known[-1] == own[-1] else 0.6


def _same(token: str, other: str) -> bool:
    return token == other or (len(token) > 2 and other.startswith(token))


def _by_values(column: Column, key: Column) -> tuple[float, str]:
    """How little chance explains that the values are those of the key, from 0 to 1, and in words."""
    count = len(column.distinct)
    if not (column.whole and key.whole):
        return (0.9, "texts like these are hardly the same by chance") if count >= 5 else (0.3, "")
    if count == len(column.values) and column.density > 0.6:
        return 0.0, ""  # a number of its own for each record
    if -count * log10(min(key.density, 1.0)) >= 3:
        return 0.9, "so many numbers out of so few are hardly met by chance"
    size = key.numbers[-1] - key.numbers[0] + 1
    spread = (column.numbers[-1] - column.numbers[0] + 1) / size
    if count >= 50 and 0.97 <= spread <= 1:
        return 0.65, "they go as far as the key does"
    return 0.0, ""
