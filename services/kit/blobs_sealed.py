"""Blobs that lie sealed: in front of any store of blobs, under the same names, which are those of the plain bytes.

What was kept before there were keys is read as it lies: it has the digest of its name, or it is not given to anybody.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from services.kit.blobs import CHUNK as PIECE
from services.kit.blobs_opening import KIND, Opening, Under
from services.kit.digests import digest_of, hash_of
from services.kit.disk import on_disk
from services.kit.errors import Code, Failure
from services.kit.sealed import CHUNK, HEAD, TAG, Box, Thing, damaged, number_of, plain_size, sealed_file, sealed_size
from services.kit.tenant_keys import TenantKeys
from services.kit.timestamps import uuid7

_FIRST = sealed_size(PIECE)  # what is fetched with the head of a blob that is read from its beginning
_LOST = (Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.DIGEST_MISMATCH)  # of what is not there, or does not open


class SealedBlobs:
    """Blobs under the keys of their tenants. Raises failed_precondition for a tenant whose keys are destroyed."""

    def __init__(self, under: Under, keys: TenantKeys, called: str = "") -> None:
        """`called`: the name of a file that `local` gives, always the same; empty: its digest's."""
        self._under, self._keys, self._called = under, keys, called
        self._opening = Opening(under, keys)

    def scratch(self, tenant: str) -> Path:
        return self._under.scratch(tenant)

    async def put(self, tenant: str, data: bytes) -> str:
        digest = await asyncio.to_thread(digest_of, data)
        await self._keep(tenant, BytesIO(data), digest)
        return digest

    async def adopt(self, tenant: str, file: Path) -> str:
        digest = await asyncio.to_thread(hash_of, file)
        with await asyncio.to_thread(open, file, "rb") as plain:
            await self._keep(tenant, plain, digest)
        await asyncio.to_thread(file.unlink)
        return digest

    async def get(self, tenant: str, digest: str) -> bytes:
        if (found := await self._opening.find(tenant, digest, _FIRST)) is None:
            return await self._under.get(tenant, digest)
        data = b"".join([piece async for piece in self._opening.pieces(tenant, digest, found, 0)])
        if await asyncio.to_thread(digest_of, data) != digest:
            raise damaged(digest)
        return data

    @contextlib.asynccontextmanager
    async def local(self, tenant: str, digest: str) -> AsyncIterator[Path]:
        if (found := await self._opening.find(tenant, digest, _FIRST)) is None:
            async with self._under.local(tenant, digest) as path:
                yield path
            return
        folder = self.scratch(tenant) / uuid7()
        file = folder / (self._called or digest.removeprefix("sha256:"))
        try:
            with on_disk():
                await asyncio.to_thread(folder.mkdir, mode=0o700)
            opening = contextlib.aclosing(self._opening.pieces(tenant, digest, found, 0))
            with on_disk(), await asyncio.to_thread(open, file, "xb") as plain:
                async with opening as pieces:
                    async for piece in pieces:
                        await asyncio.to_thread(plain.write, piece)
            await asyncio.to_thread(file.chmod, 0o444)
            yield file
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def exists(self, tenant: str, digest: str) -> bool:
        return await self._under.exists(tenant, digest)

    async def size(self, tenant: str, digest: str) -> int:
        head, size = await self._under.head(tenant, digest, HEAD)
        return plain_size(size, digest) if number_of(head) else size

    async def read(self, tenant: str, digest: str, offset: int = 0) -> AsyncIterator[bytes]:
        if (found := await self._opening.find(tenant, digest, HEAD if offset else _FIRST)) is None:
            async for piece in self._under.read(tenant, digest, offset):
                yield piece
            return
        if not 0 <= offset <= found.size:
            text = f"the offset is not between 0 and {found.size}"
            raise Failure(Code.WRONG_OFFSET, text, committed_size=found.size)
        async with contextlib.aclosing(self._opening.pieces(tenant, digest, found, offset)) as pieces:
            async for piece in pieces:
                yield piece

    async def delete(self, tenant: str, digest: str) -> None:
        await self._under.delete(tenant, digest)

    def close(self) -> None:
        self._under.close()

    async def _keep(self, tenant: str, plain: BinaryIO, digest: str) -> None:
        """Seals what is not there sealed already, so that it opens."""
        box = await self.box(tenant, digest)
        if await self.has(tenant, digest):
            return
        with on_disk():
            file = await asyncio.to_thread(
                sealed_file, self.scratch(tenant), box, iter(partial(plain.read, PIECE), b"")
            )
        await self._under.keep(tenant, file, digest)

    async def box(self, tenant: str, digest: str) -> Box:
        """What seals a blob that is new."""
        return Box(await self._keys.current(tenant), Thing(tenant, KIND, digest))

    async def take(self, tenant: str, sealed: Path, digest: str) -> None:
        """Takes over a file that was sealed by `box`."""
        await self._under.keep(tenant, sealed, digest)

    async def has(self, tenant: str, digest: str) -> bool:
        """Whether a blob is there and sealed, and its end opens: with a key that is there, and nothing cut off."""
        try:
            if (found := await self._opening.find(tenant, digest, HEAD + CHUNK + TAG)) is None:
                return False
            await self._opening.run(tenant, digest, found, found.final, 1)
        except Failure as failure:
            if failure.code not in _LOST:
                raise
            return False
        return True
