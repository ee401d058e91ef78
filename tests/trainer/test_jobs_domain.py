"""What may happen to a job, and that no silence, repeat or late worker breaks it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.kit.errors import Code, FailedPrecondition, Failure, InvalidValue
from services.trainer.jobs import domain
from services.trainer.jobs.domain import ENDED, MOVES, Act, Inputs, Job, JobSpec, JobState, LightGbm, RowRange

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TREES = LightGbm(10, 31, 0.1, 20)
INPUTS = Inputs("flights", "sha256:00", (("hour", "int64"),), ("hour",), "late", "id")
SPEC = JobSpec("late", "late", 1, 1, RowRange("month", None, 9), RowRange("month", 10, None), TREES)


def made(**values: Any) -> Job:
    return replace(Job("j1", SPEC, INPUTS, "r1", NOW), **values)


def running(attempt: int = 1, **values: Any) -> Job:
    job = made()
    for _ in range(attempt - 1):
        job = domain.lost(domain.lease(job, "w", NOW, 10), NOW)
    return replace(domain.lease(job, "w", NOW, 10), **values)


def apply(job: Job, act: Act) -> Job:
    match act:
        case Act.LEASE:
            return domain.lease(job, "w", NOW, 10)
        case Act.REQUEUE:
            return domain.failed(job, "lost", True, False, NOW)
        case Act.SUCCEED:
            return domain.succeeded(job, job.fence, "sha256:1", NOW)
        case Act.FAIL:
            return domain.failed(job, "no", False, False, NOW)
        case Act.CANCEL:
            return domain.failed(job, "", False, True, NOW)


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("act", Act)
def test_only_the_moves_of_the_table_are_made(state: JobState, act: Act) -> None:
    job = made(state=state, fence=1, manifest_digest="sha256:0")
    expected = MOVES.get((state, act))

    if expected:
        after = apply(job, act)
        assert (after.state, after.generation) == (expected, job.generation + 1)
    else:
        with pytest.raises(Failure) as caught:
            apply(job, act)
        assert caught.value.code in (Code.FAILED_PRECONDITION, Code.FENCE_STALE)


def test_nothing_leaves_an_end() -> None:
    assert not [move for move in MOVES if move[0] in ENDED]


def test_a_lease_counts_attempts_and_fences() -> None:
    again = domain.lease(domain.lost(running(), NOW), "other", NOW, 10)

    assert (again.attempt, again.fence, again.worker, again.lease_expire_time) == (
        2,
        2,
        "other",
        NOW + timedelta(seconds=10),
    )


def test_a_lower_fence_is_refused_everywhere() -> None:
    job = running(attempt=2)

    for write in (
        lambda: domain.renew(job, 1, NOW, 10, 0.5, "training"),
        lambda: domain.succeeded(job, 1, "sha256:1", NOW),
        lambda: domain.hold(job, 1),
    ):
        with pytest.raises(Failure) as caught:
            write()
        assert caught.value.code is Code.FENCE_STALE


def test_the_same_completion_twice_changes_nothing_and_another_is_refused() -> None:
    done = domain.succeeded(running(), 1, "sha256:1", NOW)

    assert domain.succeeded(done, 1, "sha256:1", NOW) is done
    with pytest.raises(Failure, match="stale"):
        domain.succeeded(done, 1, "sha256:2", NOW)


def test_attempts_are_capped_and_the_reason_is_kept() -> None:
    job = domain.lost(running(attempt=3), NOW)

    assert (job.state, job.error) == (JobState.FAILED, "the worker was lost (attempt 3 of 3)")


def test_what_would_fail_again_is_not_tried_again() -> None:
    job = domain.failed(running(), "no rows", retry=False, cancelled=False, now=NOW)

    assert (job.state, job.error, job.attempt) == (JobState.FAILED, "no rows", 1)


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_by_its_worker() -> None:
    wished = domain.cancel(running(), NOW)

    assert domain.cancel(made(), NOW).state is JobState.CANCELLED
    assert (wished.state, wished.cancel_requested) == (JobState.RUNNING, True)
    assert domain.cancel(wished, NOW) is wished
    assert domain.lost(wished, NOW).state is JobState.CANCELLED


def test_a_lease_expires_by_silence_only() -> None:
    job = running()

    assert not domain.expired(job, NOW + timedelta(seconds=10))
    assert domain.expired(job, NOW + timedelta(seconds=10.001))
    renewed = domain.renew(job, 1, NOW + timedelta(seconds=9), 10, 0.3, "training")
    assert not domain.expired(renewed, NOW + timedelta(seconds=19))


def test_progress_never_goes_back_and_is_a_number() -> None:
    job = domain.renew(running(), 1, NOW, 10, 0.5, "training")

    assert domain.renew(job, 1, NOW, 10, 0.2, "training").progress == 0.5
    assert domain.renew(job, 1, NOW, 10, float("nan"), "training").progress == 0.5
    assert domain.renew(job, 1, NOW, 10, 7.0, "training").progress == 1.0


def test_only_an_ended_job_is_deleted_with_its_etag_and_comes_back() -> None:
    done = domain.succeeded(running(), 1, "sha256:1", NOW)

    with pytest.raises(FailedPrecondition, match="cancel it first"):
        domain.delete(running(), "", NOW)
    with pytest.raises(Failure, match="its etag is"):
        domain.delete(done, "1", NOW)
    hidden = domain.delete(done, str(done.generation), NOW)
    assert domain.delete(hidden, "", NOW) is hidden
    assert domain.undelete(hidden).delete_time is None


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"max_attempts": 11}, "/spec/max_attempts"),
        ({"timeout_seconds": -1}, "/spec/timeout_seconds"),
        ({"memory_mib": 1}, "/spec/memory_mib"),
        ({"labels": {"Risk": "high"}}, "/spec/labels/Risk"),
        ({"labels": {"a/b": "high"}}, "/spec/labels/a~1b"),
        ({"labels": {"risk": ""}}, "/spec/labels/risk"),
        ({"seed": -1}, "/spec/seed"),
        ({"estimator": LightGbm(10, 1, 0.1, 20)}, "/spec/lightgbm/leaves"),
        ({"estimator": LightGbm(10, 31, float("nan"), 20)}, "/spec/lightgbm/learning_rate"),
        ({"estimator": domain.LogisticRegression(-1.0, 10)}, "/spec/logistic_regression/c"),
        ({"train": RowRange("month", 9, 1)}, "/spec/train"),
        ({"evaluate": RowRange("month", 9, 12)}, "/spec/evaluate"),
    ],
)
def test_settings_that_make_no_sense_are_named(values: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        domain.check(replace(SPEC, **values))

    assert pointer in [violation.pointer for violation in caught.value.violations]


def test_settings_that_make_sense_pass() -> None:
    domain.check(SPEC)
    domain.check(replace(SPEC, evaluate=RowRange("id", 1, 2)))


class Leases(RuleBasedStateMachine):
    """Workers that stop, hang and come back late, under a clock of the test's own."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.job = NOW, made(spec=replace(SPEC, max_attempts=4))
        self.leases: list[int] = []  # every fence that was ever handed out
        self.accepted: list[int] = []

    @rule(seconds=st.floats(0, 15))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        if domain.expired(self.job, self.now):
            self.job = domain.lost(self.job, self.now)

    @precondition(lambda self: self.job.state is JobState.QUEUED)
    @rule()
    def a_worker_leases(self) -> None:
        self.job = domain.lease(self.job, f"w{len(self.leases)}", self.now, 10)
        self.leases.append(self.job.fence)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), progress=st.floats(0, 1))
    def any_worker_that_ever_leased_reports(self, data: st.DataObject, progress: float) -> None:
        self._write(data, lambda fence: domain.renew(self.job, fence, self.now, 10, progress, "training"))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def any_worker_that_ever_leased_completes(self, data: st.DataObject) -> None:
        before = self.job.state
        fence = self._write(data, lambda fence: domain.succeeded(self.job, fence, f"sha256:{fence}", self.now))
        if fence and before is JobState.RUNNING:
            self.accepted.append(fence)

    def _write(self, data: st.DataObject, write: Any) -> int:
        fence: int = data.draw(st.sampled_from(self.leases))
        try:
            self.job = write(fence)
        except Failure as failure:
            assert failure.code is Code.FENCE_STALE
            assert fence != self.job.fence or self.job.state is not JobState.RUNNING
            return 0
        return fence

    @rule()
    def somebody_cancels(self) -> None:
        self.job = domain.cancel(self.job, self.now)

    @invariant()
    def one_completion_is_accepted_and_it_is_the_newest_fence(self) -> None:
        assert len(self.accepted) <= 1
        assert self.accepted in ([], [max(self.leases, default=0)])
        assert bool(self.accepted) == (self.job.state is JobState.SUCCEEDED)

    @invariant()
    def fences_only_grow_and_attempts_are_capped(self) -> None:
        assert self.leases == sorted(set(self.leases))
        assert self.job.attempt == len(self.leases) <= self.job.spec.max_attempts

    @invariant()
    def only_a_running_job_has_a_worker(self) -> None:
        assert bool(self.job.worker) == (self.job.state is JobState.RUNNING) == bool(self.job.lease_expire_time)
        assert bool(self.job.end_time) == (self.job.state in ENDED)


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_what_attempts_use_of_processors_adds_up_and_never_shrinks() -> None:
    first = domain.renew(running(), 1, NOW, 10, 0.5, "training", 300)
    late = domain.renew(first, 1, NOW, 10, 0.5, "training", 200)
    again = domain.lease(domain.lost(late, NOW), "w2", NOW, 10)
    second = domain.renew(again, 2, NOW, 10, 0.1, "training", 50)

    assert [job.cpu_milliseconds for job in (first, late, again, second)] == [300, 300, 300, 350]
