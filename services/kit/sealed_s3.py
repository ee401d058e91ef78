"""What a bucket holds of tenants' keys beside sealed blobs: sealed uploads, and the store of wrapped keys."""

import asyncio
import contextlib
from collections.abc import Collection, Mapping

from services.kit import upload_frames as frames
from services.kit.blobs import pieces_of
from services.kit.blobs_s3 import S3Blobs
from services.kit.blobs_sealed import SealedBlobs
from services.kit.bucket_s3 import Bucket, Stored
from services.kit.copies import Copies
from services.kit.disk import on_disk
from services.kit.forgetting import Forget, each
from services.kit.key_store import GONE, by_tenant
from services.kit.sealed import plain_size, sealed_file
from services.kit.tenant_keys import TenantKeys
from services.kit.timestamps import uuid7
from services.kit.uploads_s3 import S3Uploads


def emptying(bucket: Bucket, copies: Copies, here: Forget) -> Forget:
    """Drops all of a tenant in a bucket, except the mark that its keys are destroyed, then copies and `here`."""

    async def forget(tenant: str) -> None:
        for folder in ("blobs", "tables", "uploads"):
            await bucket.delete([item.name for item in await bucket.list(f"{folder}/{tenant}")])
        await copies.forget(tenant)
        await here([tenant])

    return each(forget)


class SealedS3Uploads(S3Uploads):
    """Uploads sealed under the keys of tenants. One that was begun before there were keys goes on plain."""

    _mark = b"sealed"

    def __init__(self, bucket: Bucket, blobs: S3Blobs, sealed: SealedBlobs, keys: TenantKeys) -> None:
        super().__init__(bucket, blobs)
        self._sealed, self._keys = sealed, keys

    async def _chunk(self, tenant: str, upload: str, offset: int, data: bytes, begun: int) -> bytes:
        if not begun or not data:
            return data
        key = await self._keys.current(tenant)
        return await asyncio.to_thread(frames.chunk, key, tenant, upload, offset, data)

    def _length(self, chunk: Stored, begun: int) -> int:
        return plain_size(chunk.size, chunk.name) if begun else chunk.size

    async def _make(self, tenant: str, upload: str, digest: str, chunks: list[Stored], begun: int) -> None:
        box, scratch = await self._sealed.box(tenant, digest), self._blobs.scratch(tenant)
        whole = scratch / uuid7()
        try:
            with on_disk():
                await asyncio.to_thread(whole.touch)
            for chunk in chunks:
                await self._bucket.download(chunk.name, whole, chunk.size)
            pieces = pieces_of(whole)
            if begun:
                places = frames.behind_each_other(chunk.size for chunk in chunks)
                numbers = await asyncio.to_thread(frames.numbers, whole, places)
                keys = {number: await self._keys.find(tenant, number) for number in numbers}
                pieces = frames.pieces(whole, places, keys, tenant, upload)
            with on_disk():
                file = await asyncio.to_thread(sealed_file, scratch, box, pieces)
            await self._blobs.keep(tenant, file, digest)
        finally:
            whole.unlink(missing_ok=True)


class BucketKeys:
    """Wrapped keys as objects `keys/<tenant>/<number>`."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def load(self, tenant: str, known: Collection[int] = ()) -> Mapping[int, bytes]:
        found = {}
        for item in await self._bucket.list(f"keys/{tenant}"):
            number = int(item.name.rpartition("/")[2])
            with contextlib.suppress(FileNotFoundError):  # destroyed meanwhile; the next call sees the mark
                found[number] = b"" if number in known else await self._bucket.get(item.name)
        return found

    async def add(self, tenant: str, number: int, wrapped: bytes) -> bool:
        return await self._bucket.create(f"keys/{tenant}/{number}", wrapped)

    async def replace(self, tenant: str, number: int, wrapped: bytes) -> None:
        await self._bucket.put(f"keys/{tenant}/{number}", wrapped)

    async def tenants(self) -> list[str]:
        return sorted({item.name.split("/")[1] for item in await self._bucket.list("keys")})

    async def numbers(self) -> Mapping[str, Collection[int]]:
        return by_tenant(item.name for item in await self._bucket.list("keys"))

    async def destroyed(self) -> list[str]:
        names = [item.name.split("/") for item in await self._bucket.list("keys")]
        return [parts[1] for parts in names if parts[2:] == [str(GONE)]]

    async def destroy(self, tenant: str) -> None:
        await self.add(tenant, GONE, b"")
        names = [item.name for item in await self._bucket.list(f"keys/{tenant}")]
        await self._bucket.delete(name for name in names if not name.endswith(f"/{GONE}"))
