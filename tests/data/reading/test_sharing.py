"""Records shared among rules: the fast way over batches gives what one record after the other gives."""

import random
from collections import Counter
from typing import Any

import pytest

from services.data.reading import extractor, sharing
from services.data.reading.extractor import NO_MATCH, Extractor, Refusal
from services.data.reading.kinds import Compiled, RuleColumn
from services.data.schema import ColumnType

N = RuleColumn("n", "n", ColumnType.INT64, required=True)
WORD = RuleColumn("word", "word", ColumnType.STRING)
NUMBERED = Compiled((N, WORD), pattern=r"(?P<word>\w+) (?P<n>\S+)")
TWO = Compiled((WORD,), pattern=r"(?P<word>\w+) .*")
SEVERAL = Compiled((WORD,), pattern=r"(?P<word>d+)", more_patterns=(r"(?P<word>e) .*", r"\?", r"(?P<word>e).*"))
ANY = Compiled((WORD,), pattern=r"(?P<word>\w*).*")


def one_by_one(ready: Extractor, records: list[Any], every: bool) -> tuple[list[list[Any]], list[Any], Counter[Any]]:
    """The same without batches, as it is said: rows of each rule, what is left, pairs."""
    rows: list[list[Any]] = [[] for _ in ready.branches]
    left, overlaps = list[Any](), Counter[Any]()
    for place, record in enumerate(records):
        made = [branch.row(record) for branch in ready.branches]
        takers = [rule for rule, row in enumerate(made) if not isinstance(row, Refusal)][: None if every else 1]
        for rule in takers:
            rows[rule].append(made[rule])
        if not takers:
            said = [(rule, row.reason) for rule, row in enumerate(made) if isinstance(row, Refusal)]
            left.append((place, *next((one for one in said if one[1] != NO_MATCH), (-1, sharing.NO_RULE))))
        overlaps.update((a, b) for at, a in enumerate(takers) for b in takers[at + 1 :])
    return rows, left, overlaps


def rows_of(typed: Any) -> list[Any]:
    pieces = [list(zip(*(column.to_pylist() for column in piece), strict=True)) for piece in typed.pieces]
    return [row for piece in pieces for row in piece]


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "order", [(NUMBERED, TWO), (TWO, NUMBERED), (NUMBERED, TWO, ANY), (ANY, NUMBERED), (NUMBERED, SEVERAL, TWO)]
)
def test_batches_give_what_single_records_give(order: tuple[Compiled, ...], seed: int, every: bool) -> None:
    chance = random.Random(seed)
    ready = extractor.of(Compiled((), branches=order), (), ())
    kinds = ["a 1", "b x", "c 99999999999999999999", "dd", "", "?", "e 2 3", "f " * 3]
    records = chance.choices(kinds[:2] if seed == 3 else kinds, k=500)
    found = sharing.share(ready, records, every)
    rows, left, overlaps = one_by_one(ready, records, every)

    assert [rows_of(typed) for typed in found.typed] == rows
    assert found.left == left
    assert found.overlaps == overlaps


def test_pairs_are_counted_of_the_first_rules_that_take_a_record() -> None:
    ready = extractor.of(Compiled((), branches=(ANY,) * 30), (), ())
    found = sharing.share(ready, ["a"], True)

    assert (found.overlapping, len(found.overlaps)) == (1, 190)
    assert len([typed for typed in found.typed if typed.pieces]) == 30
