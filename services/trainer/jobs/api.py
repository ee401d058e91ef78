"""The RPCs of jobs."""

from aimass.v1 import jobs_pb2 as pb
from aimass.v1.operations_pb2 import Operation
from services.kit.rpc import Call
from services.trainer.jobs.service import Jobs
from services.trainer.jobs.wire import job_to_wire, spec_from_wire


class JobsApi:
    """aimass.v1.Jobs."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def SubmitJob(self, request: pb.SubmitJobRequest, call: Call) -> Operation:
        return await self._jobs.submit(call.scope, spec_from_wire(request.spec), call.once())

    async def GetJob(self, request: pb.GetJobRequest, call: Call) -> pb.Job:
        return job_to_wire(*await self._jobs.get(call.scope, request.job))

    async def ListJobs(self, request: pb.ListJobsRequest, call: Call) -> pb.ListJobsResponse:
        page = await self._jobs.list(
            call.scope, request.model, request.page_size, request.page_token, request.show_deleted
        )
        return pb.ListJobsResponse(jobs=map(job_to_wire, page.items), next_page_token=page.next_token)

    async def CancelJob(self, request: pb.CancelJobRequest, call: Call) -> pb.Job:
        return job_to_wire(await self._jobs.cancel(call.scope, request.job))

    async def DeleteJob(self, request: pb.DeleteJobRequest, call: Call) -> pb.Job:
        return job_to_wire(await self._jobs.delete(call.scope, request.job, call.etag))

    async def UndeleteJob(self, request: pb.UndeleteJobRequest, call: Call) -> pb.Job:
        return job_to_wire(await self._jobs.undelete(call.scope, request.job))
