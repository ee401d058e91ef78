"""The use cases of runs. Those of jobs are called inside the transaction of the job."""

from collections.abc import AsyncIterator, Sequence

from sqlalchemy.engine import Connection

from services.kit.auth import Scope
from services.kit.blobs import Blobs
from services.kit.errors import NotFound
from services.kit.pages import Page
from services.trainer.jobs.domain import File, Job
from services.trainer.runs.domain import Point, Run, parameters
from services.trainer.runs.store import Store


class Runs:
    """The use cases."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store, self._blobs = store, blobs

    def begin(self, connection: Connection, scope: Scope, job: Job) -> None:
        """The run of a new job."""
        run = Run(
            job.run,
            job.job,
            job.spec.model,
            job.state.value,
            parameters(job),
            metrics={},
            files=(),
            create_time=job.create_time,
            end_time=None,
        )
        self._store.add(connection, scope, run)

    def move(self, connection: Connection, scope: Scope, job: Job) -> None:
        """The job's state is the run's."""
        self._store.set(connection, scope, job.run, state=job.state.value, end_time=job.end_time)

    def record(self, connection: Connection, scope: Scope, run: str, points: Sequence[Point]) -> None:
        """What an attempt measured."""
        self._store.record(connection, scope, run, points)

    def keep(self, connection: Connection, scope: Scope, run: str, files: tuple[File, ...]) -> None:
        """The files that the run made."""
        self._store.set(connection, scope, run, files=files)

    async def get(self, scope: Scope, name: str) -> Run:
        """Raises not_found."""
        return await self._store.get(scope, name)

    async def list(self, scope: Scope, model: str, page_size: int, page_token: str) -> Page[Run]:
        """Newest first."""
        return await self._store.list(scope, model, page_size, page_token)

    async def points(self, scope: Scope, name: str, metric: str, page_size: int, page_token: str) -> Page[Point]:
        """By step. Raises not_found."""
        return await self._store.points(scope, name, metric, page_size, page_token)

    async def file(self, scope: Scope, name: str, file: str, offset: int) -> AsyncIterator[tuple[File, bytes]]:
        """A file's bytes from `offset` on, in pieces. Raises not_found, wrong_offset."""
        found = next((kept for kept in (await self.get(scope, name)).files if kept.name == file), None)
        if found is None:
            raise NotFound(f"run {name} has no file {file}")
        async for piece in self._blobs.read(scope.tenant, found.digest, offset):
            yield found, piece
