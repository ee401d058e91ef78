"""The RPCs of workers. A worker of the installation works for every tenant, any other one for its own."""

from collections.abc import Iterable
from datetime import UTC, datetime

from google.protobuf.empty_pb2 import Empty

from aimass.v1 import workers_pb2 as pb
from aimass.v1.schema_pb2 import Column, ColumnType
from services.kit.auth import SYSTEM, Scope
from services.kit.errors import Forbidden, NotFound
from services.kit.rpc import Call
from services.kit.timestamps import from_wire, to_wire
from services.trainer.jobs.domain import File, Inputs, Job
from services.trainer.jobs.queue import Queue
from services.trainer.jobs.wire import spec_to_wire
from services.trainer.runs.domain import Point

_Report = pb.HeartbeatRequest | pb.CompleteJobRequest | pb.FailJobRequest


class WorkersApi:
    """aimass.v1.Workers."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def LeaseJob(self, request: pb.LeaseJobRequest, call: Call) -> pb.LeaseJobResponse:
        if call.scope.tenant != SYSTEM:
            raise Forbidden("jobs are for workers of the installation")
        wait = min(request.wait.seconds + request.wait.nanos / 1e9, call.remaining() - 1.0)
        found = await self._queue.lease(request.worker, wait)
        return pb.LeaseJobResponse(lease=_lease_to_wire(*found) if found else None)

    async def Heartbeat(self, request: pb.HeartbeatRequest, call: Call) -> pb.HeartbeatResponse:
        job = await self._queue.renew(
            _scope(request, call),
            request.job,
            request.fence,
            request.progress,
            request.stage,
            _points(request.metrics),
            request.cpu_milliseconds,
        )
        return pb.HeartbeatResponse(expire_time=to_wire(job.lease_expire_time), cancel=job.cancel_requested)

    async def CompleteJob(self, request: pb.CompleteJobRequest, call: Call) -> Empty:
        files = [File(file.name, file.digest, file.size, file.media_type) for file in request.artifacts]
        await self._queue.complete(
            _scope(request, call), request.job, request.fence, request.manifest_digest, files, _points(request.metrics)
        )
        return Empty()

    async def FailJob(self, request: pb.FailJobRequest, call: Call) -> Empty:
        await self._queue.fail(
            _scope(request, call), request.job, request.fence, request.reason, request.retry, request.cancelled
        )
        return Empty()


def _scope(request: _Report, call: Call) -> Scope:
    if call.scope.tenant not in (SYSTEM, request.tenant):
        raise NotFound(f"there is no job {request.job}")
    return Scope(request.tenant, request.project)


def _points(points: Iterable[pb.MetricPoint]) -> list[Point]:
    now = datetime.now(UTC)
    return [Point(point.metric, point.step, point.value, from_wire(point.time) or now) for point in points]


def _lease_to_wire(scope: Scope, job: Job) -> pb.Lease:
    return pb.Lease(
        tenant=scope.tenant,
        project=scope.project,
        job=job.job,
        fence=job.fence,
        expire_time=to_wire(job.lease_expire_time),
        spec=spec_to_wire(job.spec),
        run=job.run,
        inputs=_inputs_to_wire(job.inputs),
    )


def _inputs_to_wire(inputs: Inputs) -> pb.TrainingInputs:
    return pb.TrainingInputs(
        data_set=inputs.data_set,
        graph_digest=inputs.graph_digest,
        columns=[
            Column(name=name, type=ColumnType.Value(f"COLUMN_TYPE_{kind.upper()}"), nullable=True)
            for name, kind in inputs.columns
        ],
        outputs=inputs.outputs,
        label=inputs.label,
        key=inputs.key,
    )
