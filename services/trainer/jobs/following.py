"""What changes with a job, in one transaction: its run, its operation, and the event."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.engine import Connection

from services.kit.auth import Scope
from services.kit.errors import FailedPrecondition
from services.trainer.database import schema
from services.trainer.jobs import events
from services.trainer.jobs.domain import Job, JobState
from services.trainer.jobs.wire import job_to_wire
from services.trainer.runs.service import Runs


def follow(
    runs: Runs, now: Callable[[], datetime], connection: Connection, scope: Scope, before: Job | None, after: Job
) -> None:
    """Creates the run of a new job, publishes a new generation, and moves run and operation to its state."""
    if before is None:
        runs.begin(connection, scope, after)
    elif before.state != after.state:
        runs.move(connection, scope, after)
    if before is None or before.generation != after.generation:
        schema.outbox.add(connection, [events.job_changed(scope, after, now())])
    operations, name = schema.operations, after.operation
    if after.state is JobState.SUCCEEDED:
        operations.end(connection, scope, name, job_to_wire(after))
    elif after.state is JobState.CANCELLED:
        operations.end(connection, scope, name, cancelled=True)
    elif after.state is JobState.FAILED:
        operations.end(connection, scope, name, failure=FailedPrecondition(after.error[:1000]))
    elif before:
        state = "running" if after.state is JobState.RUNNING else "pending"
        wish = {"cancel_requested": True} if after.cancel_requested else {}
        how = {"state": state, "progress": after.progress, "stage": after.stage, "message": after.error[:1000]}
        operations.set(connection, scope, name, **how, **wish)
