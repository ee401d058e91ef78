"""Resumable uploads in a bucket: `uploads/<tenant>/<upload>/` holds `begun`, a chunk by its offset, and `done`.

A chunk is made conditionally at the end of what is there, so of two writers at one offset one is told where to go on,
and any process can take the next chunk. Committing reads the chunks, makes the blob and leaves `done`; until then it
can be done again. It goes on when whoever asked for it is gone, and who asks again waits for the same work: a large
upload takes longer than one call may.
"""

import asyncio
import itertools
import logging
from datetime import UTC, datetime, timedelta

from services.kit.blobs_s3 import S3Blobs
from services.kit.bucket_s3 import Bucket, Stored
from services.kit.digests import hash_of
from services.kit.disk import on_disk
from services.kit.errors import Code, FailedPrecondition, Failure, NotFound
from services.kit.timestamps import uuid7
from services.kit.uploads import GRACE, UploadStatus, check_upload

log = logging.getLogger(__name__)
_BEGUN, _DONE = "begun", "done"
_MOST = 10_000  # chunks; each is found again when the next one comes


class S3Uploads:
    """Uploads on their way into blobs of the same bucket."""

    _mark = b""  # what `begun` has in it: how the chunks lie

    def __init__(self, bucket: Bucket, blobs: S3Blobs) -> None:
        self._bucket, self._blobs = bucket, blobs
        self._ending: dict[tuple[str, str, str], asyncio.Task[UploadStatus]] = {}

    async def begin(self, tenant: str) -> UploadStatus:
        upload = uuid7()
        await self._bucket.create(_name(tenant, upload, _BEGUN), self._mark)
        return UploadStatus(upload, 0)

    async def abandon(self, tenant: str, upload: str) -> None:
        await self._forget(tenant, upload)

    async def status(self, tenant: str, upload: str) -> UploadStatus:
        return (await self._look(tenant, upload))[0]

    async def write(self, tenant: str, upload: str, offset: int, data: bytes) -> UploadStatus:
        status, chunks, begun = await self._look(tenant, upload)
        if status.digest:
            raise Failure(Code.FAILED_PRECONDITION, f"upload {upload} is committed")
        if len(chunks) >= _MOST:
            raise Failure(Code.LIMIT_EXCEEDED, f"an upload has at most {_MOST} chunks")
        if offset == status.size:
            sealed = await self._chunk(tenant, upload, offset, data, begun)
            if not data or await self._bucket.create(_name(tenant, upload, f"{offset:020d}"), sealed):
                return UploadStatus(upload, offset + len(data))
            status = await self.status(tenant, upload)
        text = f"the chunk begins at {offset}, stored are {status.size} bytes"
        raise Failure(Code.WRONG_OFFSET, text, committed_size=status.size)

    async def commit(self, tenant: str, upload: str, digest: str) -> UploadStatus:
        status, chunks, begun = await self._look(tenant, upload)
        if not status.digest:
            status = await asyncio.shield(self._ended(tenant, upload, digest, chunks, begun))
        if status.digest != digest:
            raise Failure(Code.DIGEST_MISMATCH, f"upload {upload} was committed as {status.digest}")
        return status

    async def collect(self, age: float = GRACE) -> int:
        gone, before = 0, datetime.now(UTC) - timedelta(seconds=age)
        found = sorted(await self._bucket.list("uploads"), key=_upload)
        for (tenant, upload), parts in itertools.groupby(found, _upload):
            kept = list(parts)
            if {_last(part) for part in kept} != {_DONE} and all(part.time < before for part in kept):
                gone += not any(_last(part) == _DONE for part in kept)
                await self._forget(tenant, upload)
        return gone

    async def _look(self, tenant: str, upload: str) -> tuple[UploadStatus, list[Stored], int]:
        """How far it is, its chunks, and the length of its mark. Raises not_found."""
        found = await self._bucket.list(_name(tenant, upload))
        names = {_last(item) for item in found}
        if _DONE in names:
            size, digest = (await self._bucket.get(_name(tenant, upload, _DONE))).decode().split()
            return UploadStatus(upload, int(size), digest), [], 0
        if _BEGUN not in names:
            raise NotFound(f"there is no upload {upload}")
        chunks = [item for item in found if _last(item) != _BEGUN]
        begun = next(item.size for item in found if _last(item) == _BEGUN)
        return UploadStatus(upload, sum(self._length(chunk, begun) for chunk in chunks)), chunks, begun

    async def _chunk(self, tenant: str, upload: str, offset: int, data: bytes, begun: int) -> bytes:
        """A chunk as it is kept."""
        if begun:
            raise FailedPrecondition(f"upload {upload} was begun sealed, and AIMASS_SECRETS_KEY is not set here")
        return data

    def _length(self, chunk: Stored, begun: int) -> int:
        """Bytes that a chunk stands for."""
        return chunk.size

    def _ended(
        self, tenant: str, upload: str, digest: str, chunks: list[Stored], begun: int
    ) -> asyncio.Task[UploadStatus]:
        """The task that ends an upload, which may run already."""
        key = tenant, upload, digest
        if key not in self._ending:
            task = self._ending[key] = asyncio.create_task(self._end(*key, chunks, begun))
            task.add_done_callback(lambda done: self._let_go(key, done))
        return self._ending[key]

    def _let_go(self, key: tuple[str, str, str], done: asyncio.Task[UploadStatus]) -> None:
        del self._ending[key]
        if not done.cancelled() and (error := done.exception()):
            log.info("upload %s is not committed: %s", key[1], error)  # perhaps nobody waits for it any more

    async def _end(self, tenant: str, upload: str, digest: str, chunks: list[Stored], begun: int) -> UploadStatus:
        """The blob, then the note, then the chunks: what a crash leaves can be committed again or is collected."""
        size = sum(self._length(chunk, begun) for chunk in chunks)
        try:
            await self._make(tenant, upload, digest, chunks, begun)
        except FileNotFoundError:
            return await self.status(tenant, upload)  # another process has ended it, or it is forgotten
        except Failure as failure:
            if failure.code is Code.DIGEST_MISMATCH:
                await self._forget(tenant, upload)
            raise
        if not await self._bucket.create(_name(tenant, upload, _DONE), f"{size} {digest}".encode()):
            return await self.status(tenant, upload)
        await self._forget(tenant, upload)
        return UploadStatus(upload, size, digest)

    async def _make(self, tenant: str, upload: str, digest: str, chunks: list[Stored], begun: int) -> None:
        """The blob. Raises digest_mismatch, FileNotFoundError for a chunk that is gone."""
        await self._chunk(tenant, upload, 0, b"", begun)
        whole = self._blobs.scratch(tenant) / uuid7()
        try:
            with on_disk():
                await asyncio.to_thread(whole.touch)
            for chunk in chunks:
                await self._bucket.download(chunk.name, whole, chunk.size)
            if await asyncio.to_thread(hash_of, whole) != digest:
                raise Failure(Code.DIGEST_MISMATCH, f"the bytes do not hash to {digest}")
            await self._blobs.take(tenant, whole, digest)
        finally:
            whole.unlink(missing_ok=True)

    async def _forget(self, tenant: str, upload: str) -> None:
        """All but the note: first the beginning, so that half an upload is none."""
        found = [item.name for item in await self._bucket.list(_name(tenant, upload)) if _last(item) != _DONE]
        begun = _name(tenant, upload, _BEGUN)
        await self._bucket.delete([begun])
        await self._bucket.delete(name for name in found if name != begun)


def _name(tenant: str, upload: str, part: str = "") -> str:
    return f"uploads/{tenant}/{check_upload(upload)}" + (f"/{part}" if part else "")


def _upload(item: Stored) -> tuple[str, str]:
    _, tenant, upload, _ = item.name.split("/")
    return tenant, upload


def _last(item: Stored) -> str:
    return item.name.rpartition("/")[2]
