"""The RPCs of runs."""

from collections.abc import AsyncIterator

from google.api.httpbody_pb2 import HttpBody

from aimass.v1 import runs_pb2 as pb
from aimass.v1.jobs_pb2 import JobState
from aimass.v1.workers_pb2 import MetricPoint, RunArtifact
from services.kit.rpc import Call
from services.kit.timestamps import to_wire
from services.trainer.runs.domain import Run
from services.trainer.runs.service import Runs


class RunsApi:
    """aimass.v1.Runs."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def GetRun(self, request: pb.GetRunRequest, call: Call) -> pb.Run:
        return run_to_wire(await self._runs.get(call.scope, request.run))

    async def ListRuns(self, request: pb.ListRunsRequest, call: Call) -> pb.ListRunsResponse:
        page = await self._runs.list(call.scope, request.model, request.page_size, request.page_token)
        return pb.ListRunsResponse(runs=map(run_to_wire, page.items), next_page_token=page.next_token)

    async def ListMetricPoints(self, request: pb.ListMetricPointsRequest, call: Call) -> pb.ListMetricPointsResponse:
        page = await self._runs.points(call.scope, request.run, request.metric, request.page_size, request.page_token)
        points = [
            MetricPoint(metric=point.metric, step=point.step, value=point.value, time=to_wire(point.time))
            for point in page.items
        ]
        return pb.ListMetricPointsResponse(points=points, next_page_token=page.next_token)

    async def DownloadRunArtifact(self, request: pb.DownloadRunArtifactRequest, call: Call) -> AsyncIterator[HttpBody]:
        async for file, piece in self._runs.file(call.scope, request.run, request.artifact, request.offset):
            yield HttpBody(content_type=file.media_type, data=piece)


def run_to_wire(run: Run) -> pb.Run:
    """A run with its last metrics and its files."""
    return pb.Run(
        run=run.run,
        job=run.job,
        model=run.model,
        state=JobState.Value(f"JOB_STATE_{run.state.upper()}"),
        parameters=dict(run.parameters),
        metrics=dict(run.metrics),
        artifacts=[RunArtifact(**vars(file)) for file in run.files],
        create_time=to_wire(run.create_time),
        end_time=to_wire(run.end_time),
    )
