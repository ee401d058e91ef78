"""The use cases of workers with jobs. Every write carries the fence of a lease."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy.engine import Connection

from services.kit.auth import Scope
from services.kit.blobs import Blobs
from services.kit.errors import Failure, InvalidValue, Unavailable
from services.trainer.database import schema
from services.trainer.jobs import domain, events
from services.trainer.jobs.domain import File, Job, Package
from services.trainer.jobs.store import Store
from services.trainer.runs.domain import Point
from services.trainer.runs.service import Runs

log = logging.getLogger(__name__)
_LONGEST_WAIT = 30.0  # seconds


class Queue:
    """The use cases of workers."""

    def __init__(self, store: Store, runs: Runs, blobs: Blobs, seconds: float, now: Callable[[], datetime]) -> None:
        """A lease lasts `seconds` unless it is renewed."""
        self._store, self._runs, self._blobs, self._seconds, self._now = store, runs, blobs, seconds, now
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Has waiting workers look for a job."""
        self._news.set()

    async def lease(self, worker: str, wait: float) -> tuple[Scope, Job] | None:
        """The next job for a worker, or None when there is none within `wait` seconds, at most 30."""
        deadline = asyncio.get_running_loop().time() + min(max(wait, 0.0), _LONGEST_WAIT)
        while True:
            self._news.clear()
            if found := await self._store.lease(worker, self._seconds):
                await schema.operations.tell()
                return found
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            with contextlib.suppress(TimeoutError):
                # Jobs of other processes and expired leases wake nobody here.
                async with asyncio.timeout(min(left, 1.0)):  # not wait_for: Python 3.11's can lose a cancellation
                    await self._news.wait()

    async def renew(
        self, scope: Scope, name: str, fence: int, progress: float, stage: str, points: Iterable[Point], cpu: int = 0
    ) -> Job:
        """A heartbeat with metrics; `cpu` is processor time in milliseconds. Raises not_found, fence_stale."""
        measured = tuple(points)

        def decide(job: Job, now: datetime) -> Job:
            return domain.renew(job, fence, now, self._seconds, progress, stage, cpu)

        def also(connection: Connection, job: Job) -> None:
            self._runs.record(connection, scope, job.run, measured)

        job = await self._store.change(scope, name, decide, also=also)
        await schema.operations.tell()
        return job

    async def fail(self, scope: Scope, name: str, fence: int, reason: str, retry: bool, cancelled: bool) -> None:
        """Ends an attempt. Raises not_found, fence_stale."""

        def decide(job: Job, now: datetime) -> Job:
            domain.hold(job, fence)
            return domain.failed(job, reason, retry, cancelled, now)

        await self._store.change(scope, name, decide)
        await self.changed()

    async def complete(
        self, scope: Scope, name: str, fence: int, manifest: str, files: Iterable[File], points: Iterable[Point]
    ) -> None:
        """Accepts a result once: job, run, operation and both events in one transaction.

        Raises fence_stale, and invalid_value when a file or the manifest is not there.
        """
        kept, measured = tuple(files), tuple(points)
        for file in kept:
            if not await self._blobs.exists(scope.tenant, file.digest):
                raise InvalidValue(f"{file.name} of job {name} is not among the blobs")
        package, published = await self._package(scope, manifest), self._now()

        def decide(job: Job, now: datetime) -> Job:
            return domain.succeeded(job, fence, package.digest, now)

        def also(connection: Connection, job: Job) -> None:
            self._runs.record(connection, scope, job.run, measured)
            self._runs.keep(connection, scope, job.run, kept)
            schema.outbox.add(connection, [events.training_succeeded(scope, job, package, published)])

        await self._store.change(scope, name, decide, also=also)
        await self.changed()

    async def changed(self) -> None:
        """Wakes those who wait for a job or an operation."""
        self.wake()
        await schema.operations.tell()

    async def release(self, workers: str) -> None:
        """Takes jobs back from workers that have ended, whose names begin with `workers`."""
        if await self._store.release(workers):
            await self.changed()

    async def watch(self) -> None:
        """Takes back jobs whose leases have expired, until it is cancelled."""
        while True:
            await asyncio.sleep(1.0)
            try:
                if await self._store.expire():
                    await self.changed()
            except Failure as failure:
                log.warning("leases of jobs cannot be checked: %s", failure)

    async def _package(self, scope: Scope, digest: str) -> Package:
        try:
            content: dict[str, Any] = orjson.loads(await self._blobs.get(scope.tenant, digest))
            files = tuple(File(**file) for file in content["files"])
            card = next(file for file in files if file.name == "card.md")
            text = (await self._blobs.get(scope.tenant, card.digest)).decode()
            signature, environment, metrics = (content[part] for part in ("signature", "environment", "metrics"))
        except Unavailable:
            raise  # the worker tries again
        except (Failure, ValueError, KeyError, TypeError, StopIteration):
            raise InvalidValue(f"{digest} is not a manifest") from None
        return Package(digest, files, signature, environment, metrics, text)
