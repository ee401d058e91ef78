from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from aimass.v1 import jobs_pb2 as pb
from services.kit.auth import Scope
from services.kit.errors import InvalidValue
from services.trainer.jobs import events, wire
from services.trainer.jobs.domain import (
    File,
    Inputs,
    Job,
    JobSpec,
    JobState,
    LightGbm,
    LogisticRegression,
    Package,
    RowRange,
)
from tests.trainer.steps import spec

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LINEAR = LogisticRegression(0.5, 7)
PARTS = RowRange("month", None, 9), RowRange("month", 10, None)
SPEC = JobSpec("late", "f", 1, 2, *PARTS, LINEAR, 3, True, 4, 5, 256, {"risk": "high"})
INPUTS = Inputs("flights", "sha256:0", (("hour", "int64"),), ("hour",), "late", "id")
JOB = Job("j", SPEC, INPUTS, "r", NOW, "trainer-1")


def test_what_is_not_set_gets_the_default_of_the_contract() -> None:
    found = wire.spec_from_wire(spec(lightgbm=pb.LightGbm()))

    assert found.estimator == LightGbm(200, 31, 0.05, 50)
    assert (found.max_attempts, found.timeout_seconds, found.memory_mib) == (3, 3600, 2048)
    linear = wire.spec_from_wire(spec(logistic_regression=pb.LogisticRegression()))
    assert linear.estimator == LogisticRegression(1.0, 200)


@pytest.mark.parametrize("estimator", [LINEAR, LightGbm(1, 2, 0.5, 4)])
def test_a_spec_comes_back_as_it_went(estimator: Any) -> None:
    made = replace(SPEC, estimator=estimator)

    assert wire.spec_from_wire(wire.spec_to_wire(made)) == made


def test_a_spec_without_an_estimator_is_refused() -> None:
    with pytest.raises(InvalidValue, match="lightgbm or logistic_regression"):
        wire.spec_from_wire(pb.JobSpec())


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_a_name_on_the_wire(state: JobState) -> None:
    sent = wire.job_to_wire(replace(JOB, state=state), "a free worker")

    assert pb.JobState.Name(sent.state) == f"JOB_STATE_{state.name}"
    assert (sent.etag, sent.operation, sent.waiting_for) == ("1", "trainer-1", "a free worker")


def test_times_that_have_not_come_are_not_set() -> None:
    sent = wire.job_to_wire(JOB)

    assert sent.HasField("create_time")
    assert not any(sent.HasField(name) for name in ("start_time", "end_time", "delete_time"))


def test_an_event_is_keyed_by_its_job_and_carries_its_generation() -> None:
    event = events.job_changed(Scope("acme"), replace(JOB, generation=5), NOW)

    assert (event.topic, event.key) == ("aimass.trainer.v1", "acme/default/jobs/j")
    assert event.type == "aimass.v1.JobChanged"


def test_a_success_names_what_the_model_was_made_from() -> None:
    from aimass.v1.trainer_events_pb2 import TrainingSucceeded

    tensor = {"name": "hour", "datatype": "FP64", "shape": [-1, 1]}
    signature = {"inputs": [tensor], "outputs": [], "batch_invariant": True, "checked_on": "here"}
    files = (File("model.onnx", "sha256:1", 3, "application/octet-stream"),)
    package = Package("sha256:2", files, signature, {"numpy": "2"}, {"auc": 0.7}, "# late")
    event = events.training_succeeded(Scope("acme"), JOB, package, NOW)
    message = TrainingSucceeded.FromString(event.body)

    assert (message.feature_set, message.data_set, message.manifest_digest) == ("f@1", "flights@2", "sha256:2")
    assert (message.signature.inputs[0].name, list(message.signature.inputs[0].shape)) == ("hour", [-1, 1])
    assert (message.artifacts[0].digest, dict(message.metrics), message.card) == ("sha256:1", {"auc": 0.7}, "# late")
