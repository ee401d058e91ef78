"""Rules between the steps of a pipeline."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.data.pipelines.domain import RUNNING, Condition, Output, Run, Step, check_steps, external_inputs
from services.kit.errors import Code, Failure

RAW = Step("flights", "SELECT * FROM raw", ("raw",))
NEXT = Step("late", "SELECT * FROM flights", ("flights", "weather"))


@pytest.mark.parametrize(
    ("steps", "pointer"),
    [
        ([RAW, RAW], "/steps/1/data_set"),
        ([Step("a", "", ("a",))], "/steps/0/inputs/0"),
        ([Step("a", "", ("b", "b"))], "/steps/0/inputs/1"),
        ([Step("a", "", ("b",), exclude=(Condition("x", "1"), Condition("x", "2")))], "/steps/0/exclude/1/reason"),
    ],
)
def test_steps_that_contradict_each_other_are_refused(steps: list[Step], pointer: str) -> None:
    with pytest.raises(Failure) as caught:
        check_steps(steps)

    assert caught.value.code is Code.INVALID_VALUE
    assert [violation.pointer for violation in caught.value.violations] == [pointer]


def test_an_input_must_be_a_name() -> None:
    with pytest.raises(Failure) as caught:
        check_steps([Step("a", "", ("../etc",))])

    assert caught.value.code is Code.INVALID_NAME


def test_steps_that_fit_are_taken() -> None:
    check_steps([RAW, NEXT])


def test_a_run_has_to_find_what_no_earlier_step_writes() -> None:
    assert external_inputs([RAW, NEXT]) == ("raw", "weather")
    assert external_inputs([NEXT, RAW]) == ("flights", "weather", "raw")


def test_a_step_reads_what_an_earlier_one_wrote() -> None:
    now = datetime.now(UTC)
    run = Run("r", "p", "o", RUNNING, (RAW, NEXT), {"raw": 3, "weather": 4}, (Output("flights", 7, 10),), now)

    assert (run.next_step, run.step_run(1)) == (1, "r-1")
    assert run.read_by(NEXT) == {"flights": 7, "weather": 4}


def test_every_rule_that_is_broken_is_told_at_once() -> None:
    steps = [
        Step("a", "", ("a", "b", "b")),
        Step("a", "", ("X",), quarantine=(Condition("x", "1"), Condition("x", "1"))),
    ]
    with pytest.raises(Failure, match=r"steps\.1\.inputs\.0 must be a name") as caught:
        check_steps(steps)

    assert caught.value.code is Code.INVALID_NAME
    assert [violation.pointer for violation in caught.value.violations] == [
        "/steps/0/inputs/0",
        "/steps/0/inputs/2",
        "/steps/1/data_set",
        "/steps/1/inputs/0",
        "/steps/1/quarantine/1/reason",
    ]


def test_a_word_may_stand_for_broken_rows_and_for_others() -> None:
    check_steps([Step("a", "", ("b",), quarantine=(Condition("x", "1"),), exclude=(Condition("x", "1"),))])


NAMES = ["a", "b", "c", "d", "e"]


@st.composite
def chains(draw: st.DrawFn) -> tuple[Step, ...]:
    """Steps that each write another data set and read any but their own."""
    written = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    read = [draw(st.sets(st.sampled_from([name for name in NAMES if name != own]))) for own in written]
    return tuple(Step(own, "", tuple(sorted(inputs))) for own, inputs in zip(written, read, strict=True))


@given(chains())
def test_a_run_finds_everything_that_its_steps_read(steps: tuple[Step, ...]) -> None:
    check_steps(steps)
    external = external_inputs(steps)
    run = Run("r", "p", "o", RUNNING, steps, dict.fromkeys(external, 1), (), datetime.now(UTC))

    assert len(set(external)) == len(external)
    for number, step in enumerate(steps):
        assert run.next_step == number
        earlier = {other.data_set for other in steps[:number]}
        assert run.read_by(step) == {name: 2 if name in earlier else 1 for name in step.inputs}
        run = replace(run, outputs=(*run.outputs, Output(step.data_set, 2, 0)))
