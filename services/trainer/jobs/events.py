"""The events of jobs."""

from datetime import datetime

from aimass.v1 import trainer_events_pb2 as pb
from aimass.v1.models_pb2 import Signature, TensorSpec
from aimass.v1.workers_pb2 import RunArtifact
from services.kit.auth import Scope
from services.kit.bus import Event
from services.trainer.jobs.domain import Job, Package
from services.trainer.jobs.wire import job_to_wire


def job_changed(scope: Scope, job: Job, now: datetime) -> Event:
    """A job changed its state, or was deleted or brought back."""
    return Event.of(
        pb.JobChanged(job=job_to_wire(job), generation=job.generation), scope, "jobs", job.job, "trainer", now
    )


def training_succeeded(scope: Scope, job: Job, package: Package, now: datetime) -> Event:
    """A job's files are a version of its model."""
    signature = package.signature
    message = pb.TrainingSucceeded(
        job=job_to_wire(job),
        generation=job.generation,
        manifest_digest=package.digest,
        artifacts=[RunArtifact(**vars(file)) for file in package.files],
        signature=Signature(
            inputs=[TensorSpec(**spec) for spec in signature["inputs"]],
            outputs=[TensorSpec(**spec) for spec in signature["outputs"]],
            batch_invariant=signature["batch_invariant"],
            checked_on=signature["checked_on"],
        ),
        metrics=dict(package.metrics),
        environment=dict(package.environment),
        card=package.card,
        feature_set=f"{job.spec.feature_set}@{job.spec.feature_set_version}",
        data_set=f"{job.inputs.data_set}@{job.spec.data_set_version}",
    )
    return Event.of(message, scope, "jobs", job.job, "trainer", now)
