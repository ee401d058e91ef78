"""Rules between the steps of a pipeline."""

from datetime import UTC, datetime

import pytest

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
