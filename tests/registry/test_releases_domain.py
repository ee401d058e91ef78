"""The state machine of releases: each step alone, then any sequence of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.kit.errors import Code, Failure
from services.registry.releases import domain
from services.registry.releases.domain import Change, Participants, Release, Released, State

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=120)
CHANGE = Change("registry-1", "better", NOON, LATER)


def of(number: int) -> Released:
    return Released(number, f"sha256:{number}", f"sha256:m{number}", b"")


def serving(number: int, previous: int = 0) -> Release:
    before = of(previous) if previous else None
    return Release("late", 5, State.SERVING, NOON, of(number), of(number), before)


def loading(number: int, old: int = 0) -> Release:
    return domain.begin(serving(old) if old else None, "late", of(number), "", CHANGE)


def refused(release: Release | None, target: Released | None, etag: str = "") -> Code:
    with pytest.raises(Failure) as caught:
        domain.begin(release, "late", target, etag, CHANGE)
    return caught.value.code


def test_the_first_promotion_serves_nothing_yet() -> None:
    release = loading(1)

    assert (release.generation, release.state, release.desired, release.serving) == (1, State.LOADING, of(1), None)
    assert (release.operation, release.deadline, release.reason) == ("registry-1", LATER, "better")


def test_a_promotion_leaves_the_old_version_serving() -> None:
    release = loading(2, old=1)

    assert (release.generation, release.desired, release.serving) == (6, of(2), of(1))


def test_a_withdrawal_wants_nothing() -> None:
    release = domain.begin(serving(1), "late", None, "", CHANGE)

    assert (release.state, release.desired, release.serving) == (State.WITHDRAWN, None, of(1))


@pytest.mark.parametrize("target", [of(2), of(3), None])
def test_one_change_at_a_time(target: Released | None) -> None:
    assert refused(loading(2, old=1), target) is Code.IN_PROGRESS


def test_what_serves_already_changes_nothing() -> None:
    release = serving(1, previous=2)

    assert domain.begin(release, "late", of(1), "", CHANGE) is release


def test_what_was_withdrawn_is_not_withdrawn_again() -> None:
    release = Release("late", 3, State.WITHDRAWN, NOON, previous=of(1))

    assert domain.begin(release, "late", None, "", CHANGE) is release
    assert refused(None, None) is Code.NOT_FOUND


@pytest.mark.parametrize("release", [None, serving(1)], ids=["none", "another"])
def test_an_etag_must_be_that_of_now(release: Release | None) -> None:
    assert refused(release, of(2), etag="4") is Code.ETAG_MISMATCH
    assert domain.begin(serving(1), "late", of(2), "5", CHANGE).generation == 6


def test_a_change_is_done_when_a_gateway_has_switched() -> None:
    release = domain.apply(loading(2, old=1), "g", 6, Participants(1), LATER)

    assert (release.state, release.serving, release.previous) == (State.SERVING, of(2), of(1))
    assert (release.generation, release.operation, release.deadline) == (7, "", None)


@pytest.mark.parametrize(
    ("party", "said", "whole"),
    [
        (Participants(1), [], False),
        (Participants(1), ["a"], True),
        (Participants(2), ["a"], False),
        (Participants(9, frozenset({"a"})), ["a"], True),
        (Participants(1, frozenset({"a", "b"})), ["a"], False),
        (Participants(1, frozenset({"a", "b"})), ["a", "b", "c"], True),
        (Participants(2, frozenset()), ["a"], False),
        (Participants(2, frozenset()), ["a", "b"], True),
    ],
)
def test_a_party_is_who_lives_or_else_so_many(party: Participants, said: list[str], whole: bool) -> None:
    assert party.all_of(said) is whole


def test_a_gateway_that_died_is_not_waited_for() -> None:
    once = domain.apply(loading(2, old=1), "g1", 6, Participants(1, frozenset({"g1", "g2"})), LATER)
    assert once.state is State.LOADING

    assert domain.settle(once, Participants(1, frozenset({"g1", "g2"})), LATER) is once
    assert domain.settle(once, Participants(1, frozenset({"g1"})), LATER).state is State.SERVING


def test_a_change_that_nobody_has_applied_does_not_end_by_itself() -> None:
    waiting = loading(2, old=1)

    assert domain.settle(waiting, Participants(1, frozenset()), LATER) is waiting


def test_a_change_waits_for_every_gateway() -> None:
    once = domain.apply(loading(2, old=1), "g1", 6, Participants(2), LATER)

    assert (once.state, once.applied, once.generation) == (State.LOADING, ("g1",), 6)
    assert domain.apply(once, "g1", 6, Participants(2), LATER) is once
    assert domain.apply(once, "g2", 6, Participants(2), LATER).state is State.SERVING


@pytest.mark.parametrize("generation", [4, 5, 7])
def test_what_is_said_of_another_generation_changes_nothing(generation: int) -> None:
    release = loading(2, old=1)

    assert domain.apply(release, "g", generation, Participants(1), LATER) is release
    assert domain.fail(release, generation, "no", LATER) is release


def test_what_is_said_when_nothing_is_under_way_changes_nothing() -> None:
    assert domain.apply(serving(1), "g", 5, Participants(1), LATER) == serving(1)
    assert domain.fail(serving(1), 5, "no", LATER) == serving(1)
    assert domain.extend(serving(1), LATER) == serving(1)


def test_a_failed_change_goes_back_to_what_serves() -> None:
    release = domain.fail(loading(2, old=1), 6, "it does not load", LATER)

    assert (release.generation, release.state, release.desired, release.serving) == (7, State.SERVING, of(1), of(1))
    assert (release.reason, release.operation) == ("it does not load", "")


def test_a_failed_first_change_serves_nothing() -> None:
    release = domain.fail(loading(1), 1, "it does not load", LATER)

    assert (release.state, release.desired, release.serving) == (State.WITHDRAWN, None, None)


def test_a_withdrawal_is_done_when_a_gateway_has_switched() -> None:
    withdrawn = domain.apply(domain.begin(serving(1), "late", None, "", CHANGE), "g", 6, Participants(1), LATER)

    assert (withdrawn.state, withdrawn.serving, withdrawn.previous) == (State.WITHDRAWN, None, of(1))


def test_a_rollback_goes_where_it_came_from_and_back() -> None:
    release = serving(2, previous=1)
    assert domain.rollback_target(release, "late") == of(1)

    back = domain.apply(domain.begin(release, "late", of(1), "", CHANGE), "g", 6, Participants(1), LATER)
    assert (back.serving, domain.rollback_target(back, "late")) == (of(1), of(2))


def test_a_rollback_needs_a_version_before() -> None:
    for release, code in ((None, Code.NOT_FOUND), (serving(1), Code.FAILED_PRECONDITION)):
        with pytest.raises(Failure) as caught:
            domain.rollback_target(release, "late")
        assert caught.value.code is code


def test_a_version_that_serves_again_is_not_its_own_previous() -> None:
    withdrawn = replace(serving(1), state=State.WITHDRAWN, desired=None, serving=None, previous=of(1))
    again = domain.apply(domain.begin(withdrawn, "late", of(1), "", CHANGE), "g", 6, Participants(1), LATER)

    assert (again.serving, again.previous) == (of(1), None)


class AnySequence(RuleBasedStateMachine):
    """Promotions, rollbacks, withdrawals, failures and late reports in any order, and what must have come of them."""

    def __init__(self) -> None:
        super().__init__()
        self.release: Release | None = None
        self.serves, self.seen, self.count = 0, 0, 0
        self.history: list[int] = []

    def _begin(self, target: Released | None) -> None:
        self.count += 1
        change = Change(f"registry-{self.count}", "", NOON, LATER)
        try:
            self.release = domain.begin(self.release, "late", target, "", change)
        except Failure as failure:
            assert failure.code in (Code.IN_PROGRESS, Code.NOT_FOUND)

    @rule(number=some.integers(1, 5))
    def promote(self, number: int) -> None:
        self._begin(of(number))

    @rule()
    def withdraw(self) -> None:
        self._begin(None)

    @precondition(lambda self: self.release and self.release.previous)
    @rule()
    def roll_back(self) -> None:
        self._begin(domain.rollback_target(self.release, "late"))

    @precondition(lambda self: self.release)
    @rule(late=some.integers(0, 2))
    def apply(self, late: int) -> None:
        assert self.release
        after = domain.apply(self.release, "g", self.release.generation - late, Participants(1), NOON)
        if after is not self.release:
            assert late == 0
            self.serves = domain.number(self.release.desired)
            self.history.append(self.serves)
        self.release = after

    @precondition(lambda self: self.release)
    @rule(late=some.integers(0, 2))
    def fail(self, late: int) -> None:
        assert self.release
        self.release = domain.fail(self.release, self.release.generation - late, "no", NOON)

    @invariant()
    def it_serves_what_was_applied_last(self) -> None:
        if self.release:
            assert domain.number(self.release.serving) == self.serves

    @invariant()
    def generations_only_grow(self) -> None:
        if self.release:
            assert self.release.generation >= self.seen
            self.seen = self.release.generation

    @invariant()
    def nothing_is_half_done(self) -> None:
        if release := self.release:
            wants = domain.number(release.desired)
            assert bool(release.operation) == (release.deadline is not None)
            assert (release.state is State.WITHDRAWN) == (wants == 0)
            assert release.operation or wants == self.serves
            assert release.operation or release.state is not State.LOADING
            assert not release.previous or release.operation or release.previous.version != wants

    @invariant()
    def the_previous_version_is_from_the_history(self) -> None:
        if self.release and self.release.previous:
            assert self.release.previous.version in self.history


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(some.lists(some.tuples(some.sampled_from("ab"), some.integers(1, 4)), max_size=30))
def test_two_callers_never_lose_a_change_of_each_other(steps: list[tuple[str, int]]) -> None:
    """Each one promotes with the etag that he saw last: a change that he has not seen refuses his."""
    release = serving(1)
    seen = {"a": release.etag, "b": release.etag}
    for who, number in steps:
        try:
            begun = domain.begin(release, "late", of(number), seen[who], CHANGE)
        except Failure as failure:
            assert failure.code is Code.ETAG_MISMATCH
            assert seen[who] != release.etag
        else:
            assert seen[who] == release.etag
            release = domain.apply(begun, "g", begun.generation, Participants(1), LATER)
            assert release.serving == of(number)
        seen[who] = release.etag
