from itertools import starmap

import pytest

from services.data.discovery.expressions import rule_of
from services.data.discovery.headers import Header
from services.data.discovery.lines import of_lines
from services.data.discovery.words import words_of
from services.data.reading.kinds import RegexRule
from services.data.schema import ColumnType
from services.kit import patterns
from tests.data.discovery.systems import SYSTEMS, corpus


def made(*lines: str) -> RegexRule:
    rule = rule_of(Header(), words_of(lines[0]), lines)
    assert rule
    return rule


@pytest.mark.parametrize(
    ("lines", "name", "kind"),
    [
        (("took 17 ms", "took 3 ms"), "took_ms", ColumnType.INT64),
        (("took 17ms", "took 3ms"), "took_ms", ColumnType.INT64),
        (("took 17ms", "took 3s"), "took", ColumnType.STRING),
        (("free 1.5 MB", "free 2 MB"), "free_mb", ColumnType.DOUBLE),
        (("tries 17", "tries 3"), "tries", ColumnType.INT64),
        (("load 1.5", "load 2"), "load", ColumnType.DOUBLE),
        (("code 007", "code 12"), "code", ColumnType.STRING),
        (("lit: true", "lit: false"), "lit", ColumnType.BOOL),
        (("due 2026-01-02", "due 2026-02-03"), "due", ColumnType.DATE),
        (("at 2026-01-02T10:00:00Z", "at 2026-02-03T10:00:00Z"), "at_time", ColumnType.TIMESTAMP),
        (("size=12", "size=9"), "size", ColumnType.INT64),
        (("tries\u00a0left 7", "tries\u00a0left 8"), "tries_left", ColumnType.INT64),
        (("tries\x0bleft 7", "tries\x0bleft 8"), "tries_left", ColumnType.INT64),
        (("from 10.0.0.1", "from 10.0.0.22"), "from_ip", ColumnType.STRING),
        (("17 (retries)", "4 (retries)"), "retries", ColumnType.INT64),
        (("number 99999999999999999999", "number 1"), "number", ColumnType.DOUBLE),
    ],
)
def test_columns_have_names_and_types(lines: tuple[str, ...], name: str, kind: ColumnType) -> None:
    (column,) = made(*lines).columns

    assert (column.name, column.type) == (name, kind)


def test_two_values_of_one_name_have_two() -> None:
    assert [column.name for column in made("size 1 then size 2").columns] == ["size", "size_2"]


def test_a_line_without_values_has_no_rule() -> None:
    assert rule_of(Header(), words_of("door opened"), ["door opened"]) is None


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_line_matches_the_rule_of_its_kind(name: str) -> None:
    lines = corpus(SYSTEMS[name], seed=4, size=600).lines
    found = of_lines(lines)
    rules = [proposal.definition for proposal in found.proposals]
    picks = list(
        starmap(
            patterns.picker, [(r.pattern, [c.source for c in r.columns]) for r in rules if isinstance(r, RegexRule)]
        )
    )

    unmatched = [line for line in lines if all(pick(line) is None for pick in picks)]
    assert len(unmatched) == found.unexplained
