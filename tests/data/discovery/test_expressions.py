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
        (("block blk_-17", "block blk_9"), "block", ColumnType.STRING),
        (("number 99999999999999999999", "number 1"), "number", ColumnType.DOUBLE),
    ],
)
def test_columns_have_names_and_types(lines: tuple[str, ...], name: str, kind: ColumnType) -> None:
    (column,) = made(*lines).columns

    assert (column.name, column.type) == (name, kind)


def test_an_id_is_read_with_what_it_begins_with_and_no_other_is() -> None:
    rule = made("block blk_-17 on node-3 ready", "block blk_4 on node-12 ready")
    read = patterns.picker(rule.pattern, ["block", "node"])

    assert [column.name for column in rule.columns] == ["block", "node"]
    assert read("block blk_-17 on node-3 ready") == ("blk_-17", "node-3")
    assert read("block rdd_17 on node-3 ready") is None


@pytest.mark.parametrize(
    "lines",
    [
        ["refused; name= uid=1 host=10.0.0.1", "refused; name=anna uid=2 host="],
        ["given to 10.0.0.1 (vega)", "given to 10.0.0.2 ()"],
        ["at [  57.12] read", "at [123.45] read"],
        ["again 3 times: [ wrong word 1 ]", "again 4 times: [ wrong word 22 ]"],
        ["login of tty1 anna:chen", "login of tty2"],
    ],
)
def test_a_value_may_be_missing_and_stand_between_spaces(lines: list[str]) -> None:
    found = of_lines([f"2026-01-02 10:00:{n:02} INFO {line}" for n in range(20) for line in lines])

    assert found.unexplained == 0


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
