"""Texts that were read in the wrong encoding, and categories that are spelled in several ways. For children."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from services.data.cleaning.kinds_values import Encoding, Spellings
from services.data.cleaning.operators import Applied, Operator, Rows, column_of, replaced

_WINDOWS = {bytes([code]).decode("cp1252", "ignore"): code for code in range(0x80, 0xA0)}
_TWICE = 2  # how often a text may have been read wrongly
_MOST = 10_000  # spellings of a column that are compared
_PAIRS = 2_000_000  # rare spellings times frequent ones
_SHOWN, _TEXT = 1_000, 200  # values, and characters of one in a note
_OFTEN, _SHARE = 5, 0.01
_SHORT, _LONG = 5, 9  # letters from which one, and from which two, may differ


class Repairing(Operator[Encoding]):
    """UTF-8 that was read as another encoding."""

    def apply(self, table: Any) -> Applied:
        for name in self.names:
            table = replaced(table, name, mapped(table.column(name), repaired))
        return Applied(table)


def mapped(texts: Any, change: Any) -> Any:
    """Each text by what a function makes of it, once for each that is different."""
    import pyarrow as pa

    coded = texts.combine_chunks().dictionary_encode()
    known = pa.array([change(text) for text in coded.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([known.take(coded.indices)], pa.string())


def repaired(text: str) -> str:
    """The text as it was meant, where that is certain."""
    best = found = text
    for _ in range(_TWICE):
        if found.isascii() or (again := _again(found)) is None:
            break
        found = again
        if not any("\x80" <= letter < "\xa0" for letter in found):  # half of a text that was read wrongly twice
            best = found
    return best


def _again(text: str) -> str | None:
    """Read as UTF-8; None where it is none, or may be meant as it is."""
    codes = [_WINDOWS.get(letter, ord(letter)) for letter in text]
    if max(codes) > 0xFF:
        return None
    try:
        found = bytes(codes).decode()
    except UnicodeDecodeError:
        return None
    inner = [letter for letter, code in zip(text, codes, strict=True) if 0x80 <= code < 0xC0]
    return None if all(letter.isalpha() for letter in inner) else found


class Unifying(Operator[Spellings]):
    """Spellings become one: those of the mapping, then those that were learned."""

    @property
    def learns(self) -> bool:  # type: ignore[override]
        return not self.kind.only_mapping

    def learn(self, rows: Rows) -> None:
        import pyarrow.compute as pc

        said = dict(self.kind.mapping)
        for name in self.names:
            values = mapped(column_of(rows, self.before[name]), lambda text: said.get(text, text))
            counts = pc.value_counts(values.drop_null())
            if len(counts) > _MOST:
                self.notes.append(f"{name} has more than {_MOST} spellings: none is learned")
                self.state[name] = {}
                continue
            found = dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
            self.state[name], conflicts = unified(found)
            pairs = [f"{one[:_TEXT]} and {other[:_TEXT]}" for one, other in conflicts]
            self.told += [(name, f"{name}: {pair} are both frequent") for pair in pairs]

    def apply(self, table: Any) -> Applied:
        said = dict(self.kind.mapping)
        for name in self.names:
            learned: Mapping[str, str] = self.state.get(name, {})

            def change(text: str, learned: Mapping[str, str] = learned) -> str:
                text = said.get(text, text)
                return learned.get(text, text)

            table = replaced(table, name, mapped(table.column(name), change))
        return Applied(table)

    def shown(self) -> list[dict[str, str]]:
        each = [(name, pair) for name, found in self.state.items() for pair in found.items()]
        return [{"column": name, "name": one[:200], "value": to[:200]} for name, (one, to) in each[:_SHOWN]]


def folded(text: str) -> str:
    """Without case, accents, punctuation and needless spaces."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    kept = (letter if letter.isalnum() else " " for letter in plain if not unicodedata.combining(letter))
    return " ".join("".join(kept).split())


def unified(counts: Mapping[str, int]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """What stands for each spelling that is not the one of its category; and pairs that are both frequent."""
    least = max(_OFTEN, _SHARE * sum(counts.values()))
    order = sorted(counts, key=lambda text: (folded(text), -counts[text], text))
    found, conflicts, heads = dict[str, str](), list[tuple[str, str]](), dict[str, str]()
    for fold, group in groupby(order, folded):
        head, *others = group
        if not fold:  # nothing but signs
            continue
        heads[fold] = head
        for other in others:
            if counts[other] >= least:
                conflicts.append((head, other))
            else:
                found[other] = head
    totals = Counter[str]()
    for text, count in counts.items():
        totals[found.get(text, text)] += count
    rare = [fold for fold, head in heads.items() if totals[head] < least]
    nearest = _nearest(rare, [fold for fold, head in heads.items() if totals[head] >= least])
    moved = {heads[fold]: heads[to] for fold, to in nearest.items()}
    found = {text: moved.get(to, to) for text, to in found.items()} | moved
    return dict(sorted(found.items())), conflicts


def _nearest(rare: Sequence[str], frequent: Sequence[str]) -> dict[str, str]:
    """The one frequent fold that a rare one differs from by a letter or two."""
    if len(rare) * len(frequent) > _PAIRS:
        return {}
    found = dict[str, str]()
    for fold in rare:
        most = 2 if len(fold) >= _LONG else 1 if len(fold) >= _SHORT else 0
        near = [(far, to) for to in frequent if _alike(fold, to, most) and (far := distance(fold, to, most)) <= most]
        if near and sum(far == min(near)[0] for far, _ in near) == 1:
            found[fold] = min(near)[1]
    return found


def _alike(one: str, other: str, most: int) -> bool:
    """Whether two folds may be one category: of like lengths, and with the same digits."""
    digits = [[letter for letter in text if letter.isdigit()] for text in (one, other)]
    return 0 < most >= abs(len(one) - len(other)) and digits[0] == digits[1]


def distance(one: str, other: str, most: int) -> int:
    """Letters that are added, left out, replaced, or swapped with the next; more than `most` is said as most + 1.

    Only places that are at most so far apart are looked at: place `k` of a line is the letter `row + k - most`.
    """
    far, size = most + 1, len(other)
    if abs(len(one) - size) > most:
        return far
    before, last = [far] * (2 * most + 1), [far] * most + [min(column, far) for column in range(most + 1)]
    for row, letter in enumerate(one, 1):
        line = [far] * (2 * most + 1)
        for k in range(max(0, most - row), min(2 * most, size + most - row) + 1):
            if (column := row + k - most) == 0:
                line[k] = row
                continue
            cost = last[k] + (letter != other[column - 1])
            cost = min(cost, line[k - 1] + 1 if k else far, last[k + 1] + 1 if k < 2 * most else far)
            swapped = row > 1 < column and letter == other[column - 2] and one[row - 2] == other[column - 1]
            line[k] = min(cost, before[k] + 1) if swapped else cost
        if min(line) > most:
            return far
        before, last = last, line
    return min(last[size - len(one) + most], far)
