from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.traffic.domain.routing import (
    Release,
    Route,
    Version,
    fail,
    hear,
    hurry,
    late,
    leave,
    load,
    lose,
    pin,
    report,
    unreported,
)
from services.gateway.traffic.domain.tensors import Signature
from services.kit.errors import Code, Failure

EMPTY = Signature((), ())
V1, V2, V3 = (Version(number, f"sha256:{number}", EMPTY) for number in (1, 2, 3))
SERVED = hear(load(Route(), 1, "i", True), Release("late", 1, V1, V1))


def code(route: Route | None, text: str = "") -> tuple[Code, str]:
    with pytest.raises(Failure) as caught:
        pin(route, "late", text)
    return caught.value.code, caught.value.detail


def test_an_unknown_model_is_not_found() -> None:
    assert code(None) == (Code.NOT_FOUND, "there is no model late")
    assert code(load(Route(), 1, "i", True)) == (Code.NOT_FOUND, "there is no model late")


def test_the_release_decides_when_no_version_is_named() -> None:
    pinned = pin(SERVED, "late", "")

    assert (pinned.version, pinned.named) == (V1, False)


def test_a_label_names_number_and_digest() -> None:
    assert V3.label == "3;digest=sha256:3"


@pytest.mark.parametrize("text", ["9", "x", "-1", "0", "1.0", "²", "1" * 5000])
def test_a_version_that_is_not_loaded_is_not_found(text: str) -> None:
    assert code(SERVED, text) == (Code.NOT_FOUND, f"late has no version {text[:64]} that is loaded")


def test_the_old_version_answers_until_the_new_one_is_loaded() -> None:
    loading = hear(SERVED, Release("late", 2, V2, V1, awaited=True))

    assert pin(loading, "late", "").version is V1
    assert unreported(loading) == 0
    switched = load(loading, 2, "i", True)
    assert pin(switched, "late", "").version is V2
    assert unreported(switched) == 2
    assert unreported(report(switched, 2)) == 0


def test_a_version_that_was_loaded_before_it_was_wanted_answers_at_once() -> None:
    route = hear(load(SERVED, 2, "i", True), Release("late", 2, V2, V1, awaited=True))

    assert (pin(route, "late", "").version, unreported(route)) == (V2, 2)


def test_what_is_older_changes_nothing() -> None:
    newer = hear(SERVED, Release("late", 5, V2, V1))

    assert hear(newer, Release("late", 4, V3, V3)) is newer


def test_a_withdrawn_model_stops_at_once() -> None:
    gone = hear(SERVED, Release("late", 2, None, V1, awaited=True))

    assert code(gone) == (Code.NOT_FOUND, "late has no version that serves")
    assert unreported(gone) == 2
    assert pin(gone, "late", "1").version is V1


def test_a_first_version_is_unavailable_while_it_is_loaded() -> None:
    assert code(hear(Route(), Release("late", 1, V1, awaited=True))) == (
        Code.UNAVAILABLE,
        "late version 1 is being loaded",
    )


def test_after_a_start_what_served_answers_and_nothing_is_reported() -> None:
    cold = hear(Route(), Release("late", 7, V1, V1))

    assert code(cold)[0] is Code.UNAVAILABLE
    warm = load(cold, 1, "i", True)
    assert (pin(warm, "late", "").version, unreported(warm)) == (V1, 0)


def test_after_a_start_in_the_middle_of_a_change_it_is_reported() -> None:
    cold = load(hear(Route(), Release("late", 7, V2, V1, awaited=True)), 1, "i", True)

    assert pin(cold, "late", "").version is V1
    assert unreported(load(cold, 2, "i", True)) == 7


def test_a_change_that_went_back_is_reported_without_a_switch() -> None:
    back = hear(hear(SERVED, Release("late", 2, V2, V1, awaited=True)), Release("late", 3, V1, V1))

    assert (pin(back, "late", "").version, unreported(back)) == (V1, 3)


def test_a_lost_version_does_not_answer() -> None:
    assert code(lose(SERVED, 1))[0] is Code.UNAVAILABLE


def test_an_instance_that_lets_go_leaves_the_others() -> None:
    two = load(SERVED, 1, "j", True)

    assert load(two, 1, "i", False).ready == {1: {"j"}}


def test_versions_that_nobody_names_or_has_loaded_are_forgotten() -> None:
    route = hear(load(SERVED, 1, "i", False), Release("late", 2, V3, V2))

    assert sorted(route.known) == [2, 3]


BOTH = frozenset({"i", "j"})
LOADING = hear(load(SERVED, 1, "j", True), Release("late", 2, V2, V1, awaited=True), BOTH)


def test_a_version_waits_for_all_instances_that_are_there() -> None:
    one = load(LOADING, 2, "i", True)
    assert (pin(one, "late", "").version, unreported(one)) == (V1, 0)

    both = load(one, 2, "j", True)
    assert (pin(both, "late", "").version, unreported(both)) == (V2, 2)


def test_an_instance_that_cannot_load_it_is_not_waited_for() -> None:
    assert pin(fail(load(LOADING, 2, "i", True), 2, "j"), "late", "").version is V2
    assert pin(load(fail(LOADING, 2, "j"), 2, "i", True), "late", "").version is V2


def test_an_instance_that_has_gone_is_not_waited_for() -> None:
    one = leave(load(LOADING, 2, "i", True), frozenset("j"))

    assert pin(one, "late", "").version is V2
    assert one.ready == {1: frozenset("i"), 2: frozenset("i")}


def test_a_slow_instance_is_not_waited_for_for_ever() -> None:
    one = load(LOADING, 2, "i", True)

    assert (late(LOADING), late(one), late(hurry(one))) == (False, True, False)
    assert pin(hurry(one), "late", "").version is V2


def test_hearing_of_the_same_generation_again_waits_for_nobody_new() -> None:
    one = hear(hurry(load(LOADING, 2, "i", True)), Release("late", 2, V2, V1, awaited=True), BOTH | {"k"})

    assert (one.answering, one.wanted) == (V2, frozenset())


VERSIONS = st.sampled_from([None, V1, V2, V3])
RELEASES = st.builds(Release, st.just("late"), st.integers(1, 9), VERSIONS, VERSIONS, VERSIONS, st.booleans())
Step = Release | tuple[int, str, bool]
STEPS = st.lists(RELEASES | st.tuples(st.integers(1, 3), st.sampled_from("ij"), st.booleans()), max_size=30)


@given(STEPS)
def test_what_is_reported_always_answers_and_generations_only_grow(
    steps: list[Release | tuple[int, str, bool]],
) -> None:
    route, reported = Route(), 0
    for step in steps:
        seen = route.release.generation if route.release else 0
        route = hear(route, step) if isinstance(step, Release) else load(route, *step)
        assert (route.release.generation if route.release else 0) >= seen
        if generation := unreported(route):
            assert generation > reported
            assert route.release
            assert route.answering == route.release.desired
            assert not route.answering or route.ready[route.answering.number]
            route, reported = report(route, generation), generation


@given(STEPS)
def test_hearing_the_same_twice_changes_nothing_more(steps: list[Step]) -> None:
    route = Route()
    for step in steps:
        once = hear(route, step) if isinstance(step, Release) else load(route, *step)
        again = hear(once, step) if isinstance(step, Release) else load(once, *step)
        assert again == replace(once, known=again.known)
        route = again
