import random
from dataclasses import replace
from datetime import UTC, datetime

from services.data.extractions.domain import Fill
from services.data.reading.kinds import RegexRule
from services.data.repairs.domain import Column, Found, Health, Policy, Share, seen

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def runs(*counts: tuple[int, int], of: Health | None = None) -> Health:
    health = of or Health("rule", NOW, 1)
    for number, (records, refused) in enumerate(counts):
        health = seen(health, 1, records, refused, f"run-{number}", (), NOW)
    return health


def test_what_the_first_runs_refuse_is_normal() -> None:
    health = runs((100, 30), (100, 30), (500, 150))

    assert (health.refusals.total, health.refusals.bad, health.drifted) == (700, 210, False)


def test_a_run_that_refuses_everything_is_noticed_at_once() -> None:
    health = runs((1000, 2), (50, 50))

    assert (health.drifted, health.extraction, health.refusals.total) == (True, "run-1", 1000)


def test_a_few_more_refusals_are_noticed_after_a_while() -> None:
    health = runs((10_000, 100))

    drifted = [health := runs((100, 5), of=health) for _ in range(20)]
    assert not drifted[0].drifted
    assert drifted[-1].drifted


def test_what_gets_well_again_is_no_drift() -> None:
    health = runs((10_000, 100), (50, 4), *[(1000, 9)] * 10)

    assert (health.refusals.evidence, health.drifted) == (0, False)


def test_a_new_version_begins_anew_and_keeps_the_policy() -> None:
    health = replace(runs((1000, 0), (100, 100)), policy=Policy.ACTIVATE)

    after = seen(health, 2, 10, 1, "other", (), NOW)
    assert (after.version, after.refusals) == (2, Share(10, 1))
    assert after.policy is Policy.ACTIVATE


def test_a_rule_that_refuses_nearly_everything_cannot_drift() -> None:
    assert runs((1000, 990), (1000, 1000)).drifted is False


def test_chance_alone_hardly_ever_looks_like_a_drift() -> None:
    source, alarms = random.Random(7), 0
    for _ in range(300):
        share = source.choice((0.001, 0.02, 0.2))
        health = Health("rule", NOW, 1)
        for _ in range(60):
            refused = sum(source.random() < share for _ in range(100))
            health = seen(health, 1, 100, refused, "run", (), NOW)
        alarms += health.drifted
    # 18,000 runs; each is at most one test that begins, of which one in 10,000 is a false alarm.
    assert alarms <= 3


def test_only_what_is_certain_is_activated() -> None:
    found = Found(RegexRule("x", ()), 100, 100, 50, 50, (Column("a", "a", 0.9), Column("b", "b", 0.2)))

    assert found.is_sure(frozenset({"a"}))
    assert not found.is_sure(frozenset({"a", "b"}))
    assert not replace(found, right=40).is_sure(frozenset({"a"}))
    assert not replace(found, tested=0, right=0).is_sure(frozenset({"a"}))
    assert not replace(found, definition=None).is_sure(frozenset())


def filled(health: Health, run: str, **missing: int) -> Health:
    fills = [Fill(name, 100, count) for name, count in missing.items()]
    return seen(health, 1, 100, 0, run, fills, NOW)


def test_a_column_that_has_fewer_values_than_it_had_is_noticed() -> None:
    health = Health("rule", NOW, 1)
    for number in range(5):
        health = filled(health, f"run-{number}", user=1, note=60, at=0)
    after = filled(health, "changed", user=100, note=62, at=0)

    assert (health.drifted, health.extraction) == (False, "")
    assert (after.drifted, after.moved, after.extraction) == (True, ("user",), "changed")
    assert [one.share.total for one in after.columns] == [500, 600, 600]
    # What is refused says more of what has changed.
    assert replace(after, refusals=Share(500, 1, 99.0)).lacking == ()


def test_chance_alone_hardly_ever_moves_one_of_many_columns() -> None:
    source, alarms = random.Random(11), 0
    for _ in range(60):
        health = Health("rule", NOW, 1)
        for _ in range(40):
            missing = {f"c{n}": sum(source.random() < 0.02 * n for _ in range(100)) for n in range(8)}
            health = filled(health, "run", **missing)
        alarms += health.drifted
    assert alarms <= 2  # of 2,400 runs
