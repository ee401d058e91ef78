"""Rules for documents: every place that was planted is found with its type, and nothing else."""

import random
from collections import Counter
from typing import Any

import pytest

from services.data.discovery.documents import of_documents
from services.data.discovery.domain import Discovery
from services.data.reading.kinds import JsonRule, RuleColumn
from services.data.reading.samples import Sample
from tests.data.discovery.planted_documents import Made, planted

SEEDS = range(40)


def discover(documents: list[dict[str, Any]]) -> Discovery:
    return of_documents(Sample(tuple(documents), (), ()))


def columns(found: Discovery) -> dict[str, RuleColumn]:
    """The columns of all rules by their places, without those that only tell whose element it is."""
    said: dict[str, RuleColumn] = {}
    for proposal in found.proposals:
        rule = proposal.definition
        assert isinstance(rule, JsonRule)
        depth = max(column.source.count("[*]") for column in rule.columns)
        said |= {column.source: column for column in rule.columns if column.source.count("[*]") == depth}
    return said


def test_planted_places_are_found_with_their_types() -> None:
    counts = Counter[str]()
    for seed in SEEDS:
        made = planted(seed)
        found = columns(discover(made.documents))
        counts["planted"] += len(made.places)
        counts["found"] += len(found)
        both = made.places.keys() & found.keys()
        counts["both"] += len(both)
        counts["typed"] += sum(found[path].type is made.places[path] for path in both)
        counts["variants"] += sum(found[path].variant == (path in made.variants) for path in both)
        optional = {path for path in both if path in made.optional}
        counts["optional"] += len(optional)
        counts["known to be optional"] += sum(not found[path].required for path in optional)
    print(counts)
    assert counts["both"] / counts["found"] >= 0.99
    assert counts["both"] / counts["planted"] >= 0.99
    assert counts["typed"] / counts["both"] >= 0.99
    assert counts["variants"] == counts["both"]
    assert counts["known to be optional"] == counts["optional"] > 100


@pytest.mark.parametrize("seed", SEEDS[:8])
def test_each_array_is_a_rule_with_the_key_of_the_documents_that_takes_them_all(seed: int) -> None:
    made = planted(seed)
    found = discover(made.documents)
    arrays = {path.rpartition("[*]")[0] for path in made.places if "[*]" in path}
    rules = [one.definition for one in found.proposals[1:] if isinstance(one.definition, JsonRule)]

    deepest = [max((column.source for column in rule.columns), key=lambda path: path.count("[*]")) for rule in rules]
    assert {path.rpartition("[*]")[0] for path in deepest} == arrays
    assert all(rule.columns[0].source == made.key for rule in rules)
    # A place that is hardly ever without a value may be so in the other half only.
    assert all(proposal.interval[1] > 0.95 for proposal in found.proposals)
    assert len({proposal.rule for proposal in found.proposals}) == len(found.proposals)
    assert not found.unexplained


@pytest.mark.parametrize("seed", SEEDS[:5])
def test_the_order_of_the_documents_changes_nothing(seed: int) -> None:
    made: Made = planted(seed)
    mixed = random.Random(seed).sample(made.documents, len(made.documents))
    said, other = ([one.definition for one in discover(documents).proposals] for documents in (made.documents, mixed))
    assert said == other


def test_what_is_a_map_is_no_column() -> None:
    documents = [{"id": n, "by": {f"u{n}-{k}": k for k in range(3)}, "in": {"a": {f"v{n}": [1]}}} for n in range(60)]
    (found,) = discover(documents).proposals
    assert isinstance(found.definition, JsonRule)
    assert [column.source for column in found.definition.columns] == ["$.id"]
    assert "no column for $.by, $.in.a" in found.reason


def test_what_is_sometimes_something_else_has_a_column_for_each_kind() -> None:
    documents: list[dict[str, Any]] = [
        *({"id": n, "price": n + 0.5, "to": "Bern", "mixed": n} for n in range(20)),
        *(
            {"id": n, "price": {"amount": n, "unit": "chf"}, "to": ["Chur", "Sion"], "mixed": "x"}
            for n in range(20, 40)
        ),
    ]
    found = discover(documents)
    head, stops = (one.definition for one in found.proposals)
    assert isinstance(head, JsonRule)
    assert isinstance(stops, JsonRule)
    said = [(column.source, str(column.type), column.variant) for column in head.columns]
    assert said == [
        ("$.id", "int64", False),
        ("$.price", "double", True),
        ("$.price.amount", "int64", False),
        ("$.price.unit", "string", False),
        ("$.to", "string", True),
        ("$.mixed", "string", False),
    ]
    assert found.unexplained == 0
    assert [(column.name, column.source) for column in stops.columns] == [("id", "$.id"), ("to", "$.to[*]")]
    assert [one.reason for one in found.proposals[1].counter_examples] == ["$.to is not an array"] * 3


def test_rows_of_elements_carry_what_tells_them_apart() -> None:
    documents = [
        {"id": f"K-{n}", "lines": [{"id": k, "sku": "a", "lots": [{"at": 1}, {"at": 2}]} for k in range(2)]}
        for n in range(30)
    ]
    found = {one.rule: one for one in discover(documents).proposals}
    lots = found["lines_lots"].definition
    assert isinstance(lots, JsonRule)

    assert [(one.name, one.source) for one in lots.columns] == [
        ("id", "$.id"),
        ("lines_id", "$.lines[*].id"),
        ("at", "$.lines[*].lots[*].at"),
    ]
    lines = found["lines"].definition
    assert isinstance(lines, JsonRule)
    assert [column.name for column in lines.columns] == ["parent_id", "id", "sku"]
    assert found["lines"].rows[0] == {"parent_id": "K-0", "id": 0, "sku": "a"}
    assert "told apart by id, lines_id" in found["lines_lots"].reason
