"""The RPCs of pipelines."""

from aimass.v1 import operations_pb2
from aimass.v1 import pipelines_pb2 as pb
from services.data.metering.domain import CpuBudget
from services.data.pipelines.domain import Run
from services.data.pipelines.service import Pipelines
from services.data.pipelines.wire import pipeline_to_wire, steps_from_wire
from services.kit.rpc import Call


def _operation(begun: tuple[Run, operations_pb2.Operation]) -> operations_pb2.Operation:
    return begun[1]


class PipelinesApi:
    """aimass.v1.Pipelines."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines

    async def CreatePipeline(self, request: pb.CreatePipelineRequest, call: Call) -> pb.Pipeline:
        once, steps = call.once(pipeline_to_wire), steps_from_wire(request.steps)
        return pipeline_to_wire(
            await self._pipelines.create(call.scope, request.pipeline, request.description, steps, once)
        )

    async def GetPipeline(self, request: pb.GetPipelineRequest, call: Call) -> pb.Pipeline:
        return pipeline_to_wire(await self._pipelines.get(call.scope, request.pipeline))

    async def ListPipelines(self, request: pb.ListPipelinesRequest, call: Call) -> pb.ListPipelinesResponse:
        found = await self._pipelines.list(call.scope, request.page_size, request.page_token, request.show_deleted)
        pipelines = [pipeline_to_wire(pipeline) for pipeline in found.items]
        return pb.ListPipelinesResponse(pipelines=pipelines, next_page_token=found.next_token)

    async def RunPipeline(self, request: pb.RunPipelineRequest, call: Call) -> operations_pb2.Operation:
        budget, once = CpuBudget(call.principal.id, request.cpu_seconds), call.once(_operation)
        return _operation(await self._pipelines.run(call.principal, request.pipeline, once, budget))

    async def DeletePipeline(self, request: pb.DeletePipelineRequest, call: Call) -> pb.Pipeline:
        return pipeline_to_wire(await self._pipelines.delete(call.scope, request.pipeline, call.etag))

    async def UndeletePipeline(self, request: pb.UndeletePipelineRequest, call: Call) -> pb.Pipeline:
        return pipeline_to_wire(await self._pipelines.undelete(call.scope, request.pipeline))
