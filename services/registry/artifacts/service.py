"""The use cases of artifacts, the files of models."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from services.kit.auth import Scope
from services.kit.blobs import Blobs
from services.kit.db import Once
from services.kit.digests import name_of
from services.kit.errors import Code, Failure, NotFound
from services.kit.uploads import Uploads, UploadStatus
from services.registry.artifacts import events
from services.registry.artifacts.domain import Upload
from services.registry.artifacts.store import Store

CHUNK = 16 * 2**20


class Artifacts:
    """Files by digest. A digest is read only by a scope that uploaded it or has a version that names it."""

    def __init__(self, store: Store, blobs: Blobs, uploads: Uploads, now: Callable[[], datetime]) -> None:
        self._store, self._blobs, self._uploads, self._now = store, blobs, uploads, now

    async def begin(self, scope: Scope, once: Once | None) -> Upload:
        """Opens an upload; a repeat opens no second one."""
        await self._store.recall(once)
        status = await self._uploads.begin(scope.tenant)
        try:
            return await self._store.begin(scope, Upload(status.upload, self._now()), once)
        except BaseException:
            # A repeat that came at the same time was first, or the disk is full: nobody will write to this one.
            await asyncio.shield(self._uploads.abandon(scope.tenant, status.upload))
            raise

    async def status(self, scope: Scope, upload: str) -> Upload:
        """Raises not_found."""
        row = await self._row(scope, upload)
        return _upload(row, await self._uploads.status(scope.tenant, upload))

    async def write(self, scope: Scope, upload: str, offset: int, data: bytes) -> Upload:
        """Stores a chunk. Raises not_found, wrong_offset, body_too_large, failed_precondition when it is committed."""
        if len(data) > CHUNK:
            raise Failure(Code.BODY_TOO_LARGE, "a chunk has at most 16 MiB")
        row = await self._row(scope, upload)
        return _upload(row, await self._uploads.write(scope.tenant, upload, offset, data))

    async def commit(self, scope: Scope, upload: str, digest: str) -> Upload:
        """Ends an upload; a second time changes nothing. Raises not_found, digest_mismatch."""
        name_of(scope.tenant, digest)
        row = await self._row(scope, upload)
        status = await self._uploads.commit(scope.tenant, upload, digest)
        await self._store.record(scope, {digest: status.size}, self._now())
        return _upload(row, status)

    async def read(self, scope: Scope, digest: str, offset: int) -> AsyncIterator[bytes]:
        """The bytes from an offset on. Raises not_found, wrong_offset, digest_mismatch."""
        name_of(scope.tenant, digest)
        if not await self._store.known(scope, [digest]):
            raise NotFound(f"there is no artifact {digest}")
        async for piece in self._blobs.read(scope.tenant, digest, offset):
            yield piece

    async def known(self, scope: Scope, digests: Iterable[str]) -> set[str]:
        """Those of the digests that the scope may read."""
        return await self._store.known(scope, digests)

    async def adopt(self, scope: Scope, digests: Iterable[str]) -> None:
        """Lets the scope read blobs that a service stored for it. Raises not_found."""
        found = {digest: await self._blobs.size(scope.tenant, digest) for digest in sorted(set(digests))}
        await self._store.record(scope, found, self._now())

    async def keep(self, scope: Scope, data: bytes) -> str:
        """Stores bytes that the scope may read; returns their digest."""
        digest = await self._blobs.put(scope.tenant, data)
        await self._store.record(scope, {digest: len(data)}, self._now())
        return digest

    async def size(self, scope: Scope, digest: str) -> int:
        """Bytes. Raises not_found."""
        return await self._blobs.size(scope.tenant, digest)

    async def measure(self, hour: datetime) -> None:
        """Publishes how many bytes each project stores, in an hour."""
        await self._store.sizes.fill(self._blobs.size)
        kept = await self._store.kept()
        await self._store.tell(events.artifacts_stored(hour, scope, size) for scope, size in kept.items() if size)

    async def get(self, scope: Scope, digest: str) -> bytes:
        """All bytes, verified. Raises not_found, digest_mismatch."""
        return await self._blobs.get(scope.tenant, digest)

    @contextlib.asynccontextmanager
    async def local(self, scope: Scope, digests: Mapping[str, str]) -> AsyncIterator[dict[str, Path]]:
        """Where a child process finds bytes (digest by name) while the context lasts. Raises as `get` does."""
        async with contextlib.AsyncExitStack() as stack:
            yield {
                name: await stack.enter_async_context(self._blobs.local(scope.tenant, digest))
                for name, digest in digests.items()
            }

    async def _row(self, scope: Scope, upload: str) -> Upload:
        if row := await self._store.upload(scope, upload):
            return row
        raise NotFound(f"there is no upload {upload}")


def _upload(row: Upload, status: UploadStatus) -> Upload:
    return replace(row, size=status.size, digest=status.digest)
