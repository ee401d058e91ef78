"""Which of the fields that were found are the columns of a rule: by names, values, their form and their place. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.data.reading.kinds import RuleColumn
from services.data.reading.values import guess, keeps
from services.data.schema import ColumnType

_LETTERS = re.compile(r"[a-z]+")
_NAME, _VALUES, _FORM, _TYPE, _PLACE = 0.35, 0.25, 0.15, 0.15, 0.1  # what speaks for a pair, in all 1
_LEAST = 0.3  # below this nothing is said
_FITS = 0.98  # of the values have to be of the column's type
_NUMBERS = (ColumnType.INT64, ColumnType.DOUBLE)


@dataclass(frozen=True)
class Known:
    """A column of the rule, with values that it had."""

    column: RuleColumn
    values: Sequence[Any]


@dataclass(frozen=True)
class Field:
    """What was found in the records that are refused, with its raw values; None where it is missing."""

    name: str
    values: Sequence[Any]


@dataclass(frozen=True)
class Match:
    """A field that is a column, with how certain that is."""

    column: RuleColumn
    field: Field
    confidence: float


def matched(known: Sequence[Known], fields: Sequence[Field]) -> list[Match]:
    """The best pair first; each column and each field once. Columns that nothing speaks for have no match."""
    pairs = [pair for pair in _pairs(known, fields) if pair[0] >= _LEAST]
    found: dict[int, Match] = {}
    used = set[int]()
    for score, column, field in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        if column in found or field in used:
            continue
        rivals = [other for other, a, b in pairs if (a == column) != (b == field)]
        sure = score - max(rivals, default=0.0) / 2
        found[column] = Match(known[column].column, fields[field], round(min(1.0, max(0.0, 1.5 * sure)), 3))
        used.add(field)
    return [found[column] for column in sorted(found)]


def _pairs(known: Sequence[Known], fields: Sequence[Field]) -> Iterator[tuple[float, int, int]]:
    for i, column in enumerate(known):
        for j, field in enumerate(fields):
            there = [value for value in field.values if value is not None and value != ""]
            fit = sum(keeps(value, column.column.type) for value in there)
            if not there or fit < _FITS * len(there) or (column.column.required and len(there) < len(field.values)):
                continue
            place = 1 - abs(i / max(len(known) - 1, 1) - j / max(len(fields) - 1, 1))
            values, form = _alike(column, there), _formed(column.values, there)
            # Any word may be a text; a time or a number says more.
            typed = column.column.type is not ColumnType.STRING and guess(there) is column.column.type
            score = _NAME * _named(column.column, field.name) + _VALUES * values + _FORM * form
            yield score + _TYPE * typed + _PLACE * place, i, j


def _named(column: RuleColumn, name: str) -> float:
    """1 for the same name or place, a part of 1 for words that they have in common."""
    if name in (column.name, column.source):
        return 1.0
    ours = set(_LETTERS.findall(column.name.lower())) | set(_LETTERS.findall(column.source.lower()))
    theirs = set(_LETTERS.findall(name.lower()))
    return len(ours & theirs) / min(len(ours), len(theirs)) * 0.9 if ours and theirs else 0.0


def _alike(known: Known, there: Sequence[Any]) -> float:
    """How far the values are the same, or numbers of the same size, from 0 to 1."""
    before = [value for value in known.values if value is not None and value != ""]
    if not before:
        return 0.0
    if known.column.type in _NUMBERS:
        return _overlap(sorted(map(float, before)), sorted(map(float, there)))
    ours, theirs = set(map(str, before)), set(map(str, there))
    return len(ours & theirs) / min(len(ours), len(theirs))


def _overlap(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How far the middle four fifths of two samples cover each other."""
    (a, b), (c, e) = _middle(ours), _middle(theirs)
    whole = max(b, e) - min(a, c)
    return 1.0 if whole == 0 else max(0.0, min(b, e) - max(a, c)) / whole


def _middle(values: Sequence[float]) -> tuple[float, float]:
    return values[len(values) // 10], values[-1 - len(values) // 10]


def _formed(before: Sequence[Any], there: Sequence[Any]) -> float:
    """The share of values whose form was there before: letters, digits, signs."""
    forms = {_form(value) for value in before if value is not None}
    return sum(_form(value) in forms for value in there) / len(there)


def _form(value: Any) -> str:
    return re.sub(r"[0-9]+", "9", re.sub(r"[A-Za-z]+", "a", str(value)))[:40]
