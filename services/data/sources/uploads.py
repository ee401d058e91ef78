"""The use cases of uploads that sources are made of: resumable, kept by digest."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from services.data.sources.domain import Upload
from services.data.sources.store import SourceStore
from services.kit.auth import Scope
from services.kit.db import Once
from services.kit.errors import Code, Failure
from services.kit.uploads import Uploads

CHUNK = 16 * 2**20  # bytes


class SourceUploads:
    """The use cases. An upload belongs to the project that opened it, its bytes to the tenant."""

    def __init__(self, store: SourceStore, uploads: Uploads, most: int, now: Callable[[], datetime]) -> None:
        """`most`: bytes that one upload may have."""
        self._store, self._uploads, self._most, self._now = store, uploads, most, now

    async def create(self, scope: Scope, once: Once | None) -> Upload:
        """Opens an upload."""
        await self._store.recall(once)
        opened, now = await self._uploads.begin(scope.tenant), self._now()
        upload = Upload(opened.upload, 0, "", now)
        try:
            made: Upload = await self._store.add_upload(scope, opened.upload, now, once, upload)
        except BaseException:
            # A repeat that came at the same time was first, or the disk is full: nobody will write to this one.
            await asyncio.shield(self._uploads.abandon(scope.tenant, opened.upload))
            raise
        return made

    async def get(self, scope: Scope, upload: str) -> Upload:
        """How far it is. Raises not_found."""
        time = await self._store.upload_time(scope, upload)
        status = await self._uploads.status(scope.tenant, upload)
        return Upload(upload, status.size, status.digest, time)

    async def write(self, scope: Scope, upload: str, offset: int, data: bytes) -> Upload:
        """Stores a chunk. Raises not_found, wrong_offset, body_too_large, limit_exceeded, storage_full."""
        if len(data) > CHUNK:
            raise Failure(Code.BODY_TOO_LARGE, "a chunk has at most 16 MiB")
        if offset + len(data) > self._most:
            raise Failure(Code.LIMIT_EXCEEDED, f"an upload has at most {self._most} bytes")
        time = await self._store.upload_time(scope, upload)
        status = await self._uploads.write(scope.tenant, upload, offset, data)
        return Upload(upload, status.size, status.digest, time)

    async def commit(self, scope: Scope, upload: str, digest: str) -> Upload:
        """Ends an upload; a second time changes nothing. Raises not_found, digest_mismatch."""
        time = await self._store.upload_time(scope, upload)
        status = await self._uploads.commit(scope.tenant, upload, digest)
        await self._store.note_digest(scope, upload, status.digest, status.size)
        return Upload(upload, status.size, status.digest, time)

    async def kept(self) -> dict[Scope, int]:
        """Bytes of what each project of all tenants has committed."""
        await self._store.sizes.fill(self._size)
        return await self._store.kept()

    async def _size(self, tenant: str, upload: str) -> int:
        return (await self._uploads.status(tenant, upload)).size
