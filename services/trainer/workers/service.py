"""The queue's other end: what workers do."""

from collections.abc import Iterable
from typing import Any

import orjson

from services.kit.auth import Scope
from services.kit.blobs import Blobs
from services.kit.errors import Failure, InvalidValue, Unavailable
from services.trainer.jobs.domain import File, Job, Package
from services.trainer.jobs.service import Jobs
from services.trainer.runs.domain import Point

LONGEST_WAIT = 30.0  # seconds


class Queue:
    """The use cases. Every write carries the fence of a lease."""

    def __init__(self, jobs: Jobs, blobs: Blobs, seconds: float) -> None:
        """A lease lasts `seconds` unless it is renewed."""
        self._jobs, self._blobs, self._seconds = jobs, blobs, seconds

    async def lease(self, worker: str, wait: float) -> tuple[Scope, Job] | None:
        """The next job, or None when there is none within `wait` seconds."""
        return await self._jobs.lease(worker, min(max(wait, 0.0), LONGEST_WAIT), self._seconds)

    async def renew(
        self, scope: Scope, job: str, fence: int, progress: float, stage: str, points: Iterable[Point], cpu: int = 0
    ) -> Job:
        """A sign of life; `cpu` are milliseconds of processors used. Raises not_found, fence_stale."""
        return await self._jobs.renew(scope, job, fence, self._seconds, progress, stage, points, cpu)

    async def complete(
        self, scope: Scope, job: str, fence: int, manifest: str, files: Iterable[File], points: Iterable[Point]
    ) -> None:
        """Accepts a result once. Raises fence_stale, and invalid_value when a file or the manifest is not there."""
        kept = tuple(files)
        for file in kept:
            if not await self._blobs.exists(scope.tenant, file.digest):
                raise InvalidValue(f"{file.name} of job {job} is not among the blobs")
        package = await self._package(scope, manifest)
        await self._jobs.complete(scope, job, fence, package, points, kept)

    async def fail(self, scope: Scope, job: str, fence: int, reason: str, retry: bool, cancelled: bool) -> None:
        """Ends an attempt. Raises not_found, fence_stale."""
        await self._jobs.fail(scope, job, fence, reason, retry, cancelled)

    async def _package(self, scope: Scope, digest: str) -> Package:
        try:
            content: dict[str, Any] = orjson.loads(await self._blobs.get(scope.tenant, digest))
            files = tuple(File(**file) for file in content["files"])
            card = next(file for file in files if file.name == "card.md")
            text = (await self._blobs.get(scope.tenant, card.digest)).decode()
            what = (content["signature"], content["environment"], content["metrics"])
        except Unavailable:
            raise  # the worker says it again
        except (Failure, ValueError, KeyError, TypeError, StopIteration):
            raise InvalidValue(f"{digest} is no manifest") from None
        return Package(digest, files, *what, text)
