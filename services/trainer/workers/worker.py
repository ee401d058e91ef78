"""A worker: leases a job by RPC, has it run, keeps its files, reports. Knows nothing of the database."""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from google.protobuf.duration_pb2 import Duration

from aimass.v1 import workers_pb2 as pb
from aimass.v1.datasets_pb2 import DataSetLocation, GetDataSetVersionRequest
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.workers_pb2_grpc import WorkersStub
from services.kit.auth import SYSTEM, Scope
from services.kit.blobs import Blobs
from services.kit.errors import Code, Failure
from services.kit.mirrors import Mirrors
from services.kit.process import Limits
from services.kit.tasks import is_cancelled
from services.kit.timestamps import uuid7
from services.trainer.runner import Runner
from services.trainer.workers.request import Json, child_request, manifest

log = logging.getLogger(__name__)
_WAIT = 20  # seconds that a call for a lease waits
_POINTS = 1000  # most in one heartbeat
# Failures that pass; after others a repeated call would fail again.
_PASSING = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.OVERLOADED, Code.STORAGE_FULL)
T = TypeVar("T")
Metadata = Callable[[str, Scope, str], Any]


class Attempt:
    """A lease and what the next heartbeat reports about it."""

    def __init__(self, lease: pb.Lease) -> None:
        self.lease, self.progress, self.stage = lease, 0.0, "starting"
        self.points: list[pb.MetricPoint] = []
        self.cpu = 0  # milliseconds of processor time that the child has reported
        self.stop = ""  # why the work was stopped: `cancelled` or `stale`

    async def hear(self, message: Json) -> None:
        """Takes a message of the child."""
        self.progress, self.stage = message["progress"], message["stage"]
        self.cpu = message.get("cpu_milliseconds", self.cpu)
        if point := message.get("point"):
            found = pb.MetricPoint(**point)
            found.time.GetCurrentTime()
            self.points.append(found)

    def named(self) -> dict[str, Any]:
        """The fields of every report."""
        lease = self.lease
        return {"tenant": lease.tenant, "project": lease.project, "job": lease.job, "fence": lease.fence}


class Worker:
    """Works until it is cancelled, one job at a time."""

    def __init__(
        self,
        name: str,
        channels: Callable[[str], Any],
        metadata: Metadata,
        blobs: Blobs,
        mirrors: Mirrors,
        seconds: float,
        threads: int,
        runner: Runner,
    ) -> None:
        """`metadata` signs a call of a service for a scope with a permission; a heartbeat goes every `seconds`."""
        self.name, self._channels, self._metadata, self._runner = name, channels, metadata, runner
        self._blobs, self._mirrors, self._seconds, self._threads = blobs, mirrors, seconds, threads

    async def run(self) -> None:
        """Runs one job after the other."""
        while True:
            try:
                if lease := await self._lease():
                    await self._work(Attempt(lease))
            except Failure as failure:
                log.warning("worker %s tries again in a second: %s", self.name, failure)
                await asyncio.sleep(1)

    async def _lease(self) -> pb.Lease | None:
        request = pb.LeaseJobRequest(worker=self.name, wait=Duration(seconds=_WAIT))
        reply = await self._stub().LeaseJob(request, metadata=self._as(SYSTEM, "workers.lease"))
        return reply.lease if reply.HasField("lease") else None

    def _stub(self) -> Any:
        return cast(Any, WorkersStub(self._channels("trainer")))

    def _as(self, tenant: str, permission: str) -> Any:
        return self._metadata("trainer", Scope(tenant), permission)

    async def _work(self, attempt: Attempt) -> None:
        """Runs the attempt beside its heartbeats and reports how it ended."""
        work = asyncio.ensure_future(self._attempt(attempt))
        beat = asyncio.ensure_future(self._beat(attempt, work))
        try:
            done = await work
        except asyncio.CancelledError:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Failure):
                await work
            if not attempt.stop or is_cancelled():
                raise  # the process stops: the lease ends by itself, or at the next start
            if attempt.stop == "cancelled":
                await self._fail(attempt, "cancelled", retry=False, cancelled=True)
        except Failure as failure:
            await self._fail(attempt, _reason(failure), retry=failure.code in (*_PASSING, Code.INTERNAL))
        except Exception:
            log.exception("job %s failed", attempt.lease.job)
            await self._fail(attempt, "internal error", retry=True)
        else:
            await self._spent(attempt)
            await self._report("CompleteJob", done)
        finally:
            beat.cancel()

    async def _fail(self, attempt: Attempt, reason: str, retry: bool, cancelled: bool = False) -> None:
        await self._spent(attempt)
        failed = pb.FailJobRequest(**attempt.named(), reason=reason[:4000], retry=retry, cancelled=cancelled)
        await self._report("FailJob", failed)

    async def _spent(self, attempt: Attempt) -> None:
        """Reports what the attempt used up to its end."""
        last: dict[str, Any] = {"progress": attempt.progress, "stage": attempt.stage, "cpu_milliseconds": attempt.cpu}
        with contextlib.suppress(Failure):  # then the last heartbeat counts
            request = pb.HeartbeatRequest(**attempt.named(), **last)
            await self._stub().Heartbeat(request, metadata=self._as(SYSTEM, "workers.report"))

    async def _report(self, method: str, request: Any) -> None:
        """Reports the end of an attempt, until it is accepted or refused: a stale fence ends it."""
        while True:
            try:
                await getattr(self._stub(), method)(request, metadata=self._as(SYSTEM, "workers.report"))
                return
            except Failure as failure:
                if failure.code not in _PASSING:
                    log.warning("job %s: %s was refused: %s", request.job, method, failure)
                    return
                await asyncio.sleep(1)

    async def _beat(self, attempt: Attempt, work: "asyncio.Future[Any]") -> None:
        while True:
            await asyncio.sleep(self._seconds)
            points = attempt.points[:_POINTS]
            beat: dict[str, Any] = {"progress": attempt.progress, "stage": attempt.stage, "metrics": points}
            request = pb.HeartbeatRequest(**attempt.named(), **beat, cpu_milliseconds=attempt.cpu)
            try:
                reply = await self._stub().Heartbeat(request, metadata=self._as(SYSTEM, "workers.report"))
            except Failure as failure:
                if failure.code in _PASSING:
                    continue
                log.warning("job %s: the heartbeat was refused: %s", attempt.lease.job, failure)
                attempt.stop = "stale"
            else:
                del attempt.points[: len(points)]
                attempt.stop = "cancelled" if reply.cancel else ""
            if attempt.stop:
                work.cancel()
                return

    async def _attempt(self, attempt: Attempt) -> pb.CompleteJobRequest:
        lease, spec = attempt.lease, attempt.lease.spec
        location = await self._locate(attempt)
        folder = self._blobs.scratch(lease.tenant) / uuid7()
        folder.mkdir()
        try:
            async with contextlib.AsyncExitStack() as stack:
                graph, files = await self._fetch(attempt, location, stack)
                request = child_request(lease, files, graph, folder, self._threads)
                limits = Limits(spec.timeout_seconds, spec.memory_mib, threads=self._threads)
                await _patiently(attempt, "the container engine", self._runner.ready)
                result = await self._runner.run(request, limits, attempt.hear)
            attempt.cpu = result.get("cpu_milliseconds", attempt.cpu)
            attempt.stage = "packaging"
            return await self._package(attempt, result, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _locate(self, attempt: Attempt) -> DataSetLocation:
        """Where the data is."""
        lease = attempt.lease
        scope = Scope(lease.tenant, lease.project)
        request = GetDataSetVersionRequest(data_set=lease.inputs.data_set, version=lease.spec.data_set_version)
        stub = cast(Any, DataSetsStub(self._channels("data")))

        async def ask() -> DataSetLocation:
            metadata = self._metadata("data", scope, "data_sets.locate")
            return cast(DataSetLocation, await stub.LocateDataSetVersion(request, timeout=2, metadata=metadata))

        return await _patiently(attempt, "the data service", ask)

    async def _fetch(
        self, attempt: Attempt, location: DataSetLocation, stack: contextlib.AsyncExitStack
    ) -> tuple[Path, list[str]]:
        """The graph and the files of the data, on this machine until the stack ends."""
        tenant, digest = attempt.lease.tenant, attempt.lease.inputs.graph_digest
        wanted = {file.path: file.digest for file in location.files}
        graph = await _patiently(
            attempt, "the store", lambda: stack.enter_async_context(self._blobs.local(tenant, digest))
        )
        table = await _patiently(
            attempt, "the store", lambda: stack.enter_async_context(self._mirrors.hold(tenant, location.uri, wanted))
        )
        return graph, [str(table / file.path) for file in location.files]

    async def _package(self, attempt: Attempt, result: Mapping[str, Any], folder: Path) -> pb.CompleteJobRequest:
        files = [await self._keep(attempt, folder / name, kind) for name, kind in sorted(result["files"].items())]
        content = manifest(attempt.lease, result, files)
        digest = await _patiently(attempt, "the store", lambda: self._blobs.put(attempt.lease.tenant, content))
        files.append(
            pb.RunArtifact(name="manifest.json", digest=digest, size=len(content), media_type="application/json")
        )
        measured = [pb.MetricPoint(metric=name, value=value) for name, value in result["metrics"].items()]
        points = [*attempt.points, *measured]
        return pb.CompleteJobRequest(**attempt.named(), artifacts=files, metrics=points, manifest_digest=digest)

    async def _keep(self, attempt: Attempt, path: Path, media_type: str) -> pb.RunArtifact:
        size = (await asyncio.to_thread(path.stat)).st_size
        digest = await _patiently(attempt, "the store", lambda: self._blobs.adopt(attempt.lease.tenant, path))
        return pb.RunArtifact(name=path.name, digest=digest, size=size, media_type=media_type)


async def _patiently(attempt: Attempt, what: str, ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` returns; while `what` is unavailable it is asked again, and the lease is kept."""
    stage, began, seconds = attempt.stage, time.monotonic(), attempt.lease.spec.timeout_seconds
    while True:
        try:
            found = await ask()
        except Failure as failure:
            if failure.code not in _PASSING:
                raise
            if time.monotonic() - began >= seconds:
                raise Failure(Code.LIMIT_EXCEEDED, f"{what} was away for {seconds} s") from failure
            attempt.stage = f"waiting for {what}"
            await asyncio.sleep(1)
        else:
            attempt.stage = stage
            return found


def _reason(failure: Failure) -> str:
    """The reason for the owner of the job, without the standard error of a child that died."""
    if failure.code is not Code.INTERNAL:
        return failure.detail
    rules = "; ".join(violation.rule for violation in failure.violations)
    log.error("a training died: %s %s", failure.detail, rules)
    return "the training died"
