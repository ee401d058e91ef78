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
from typing import BinaryIO, NamedTuple, Protocol

from services.kit.blobs import CHUNK as PIECE
from services.kit.blobs import Blobs
from services.kit.digests import digest_of, hash_of
from services.kit.disk import on_disk
from services.kit.errors import Code, Failure
from services.kit.sealed import CHUNK, HEAD, Box, Thing, box_of, damaged, number_of, plain_size, sealed_file, span
from services.kit.tenant_keys import TenantKeys
from services.kit.timestamps import uuid7

_RUN = PIECE // CHUNK  # chunks that are read at once
_KIND = "blob"
_LOST = (Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.DIGEST_MISMATCH)  # of what is not there, or does not open


class Under(Blobs, Protocol):
    """A store of blobs that keeps what it is given, and gives it back as it lies. Its methods raise not_found."""

    async def keep(self, tenant: str, file: Path, digest: str) -> None:
        """Takes a file of this machine over, also over what is there, under a name that is believed."""

    async def head(self, tenant: str, digest: str, count: int) -> tuple[bytes, int]:
        """The first bytes, and how many there are."""

    async def piece(self, tenant: str, digest: str, begin: int, end: int) -> bytes:
        """Some of the bytes."""


class _Found(NamedTuple):
    """A blob that lies sealed: what opens it, and its plain bytes."""

    box: Box
    size: int


class SealedBlobs:
    """Blobs under the keys of their tenants. Raises failed_precondition for a tenant whose keys are destroyed."""

    def __init__(self, under: Under, keys: TenantKeys, called: str = "") -> None:
        """`called`: the name of a file that `local` gives, always the same; empty: its digest's."""
        self._under, self._keys, self._called = under, keys, called

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
        if (found := await self._find(tenant, digest)) is None:
            return await self._under.get(tenant, digest)
        data = b"".join([piece async for piece in self._pieces(tenant, digest, found, 0)])
        if await asyncio.to_thread(digest_of, data) != digest:
            raise damaged(digest)
        return data

    @contextlib.asynccontextmanager
    async def local(self, tenant: str, digest: str) -> AsyncIterator[Path]:
        if (found := await self._find(tenant, digest)) is None:
            async with self._under.local(tenant, digest) as path:
                yield path
            return
        folder = self.scratch(tenant) / uuid7()
        file = folder / (self._called or digest.removeprefix("sha256:"))
        try:
            with on_disk():
                await asyncio.to_thread(folder.mkdir, mode=0o700)
            with on_disk(), await asyncio.to_thread(open, file, "xb") as plain:
                async for piece in self._pieces(tenant, digest, found, 0):
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
        found = await self._find(tenant, digest)
        if found and not 0 <= offset <= found.size:
            text = f"the offset is not between 0 and {found.size}"
            raise Failure(Code.WRONG_OFFSET, text, committed_size=found.size)
        pieces = self._pieces(tenant, digest, found, offset) if found else self._under.read(tenant, digest, offset)
        async for piece in pieces:
            yield piece

    async def delete(self, tenant: str, digest: str) -> None:
        await self._under.delete(tenant, digest)

    def close(self) -> None:
        self._under.close()

    async def _pieces(self, tenant: str, digest: str, found: _Found, offset: int) -> AsyncIterator[bytes]:
        """The plain bytes from an offset on. The last chunk is opened first: it says that no end was cut off."""
        final = _final(found)
        end = await self._run(tenant, digest, found, final, 1)
        first, skip = divmod(offset, CHUNK)
        while first < final:
            plain = await self._run(tenant, digest, found, first, min(_RUN, final - first))
            yield plain[skip:]
            first, skip = first + _RUN, 0
        if rest := end[max(0, offset - final * CHUNK) :]:
            yield rest

    async def _run(self, tenant: str, digest: str, found: _Found, first: int, count: int) -> bytes:
        """Some chunks. If others have come to their place meanwhile, sealed anew, those."""
        begin, end, ends = span(first, count, found.size)
        while True:
            sealed = await self._under.piece(tenant, digest, begin, end)
            try:
                if len(sealed) != end - begin:
                    raise damaged(digest)
                return await asyncio.to_thread(found.box.open_run, first, sealed, ends)
            except Failure:
                now = await self._find(tenant, digest)
                if now is None or now.size != found.size or now.box.head == found.box.head:
                    raise
                found = now

    async def _find(self, tenant: str, digest: str) -> _Found | None:
        """What opens a blob; None for one that lies plain. Raises not_found."""
        head, size = await self._under.head(tenant, digest, HEAD)
        if not (number := number_of(head)):
            return None
        box = box_of(head, await self._keys.find(tenant, number), Thing(tenant, _KIND, digest))
        return _Found(box, plain_size(size, digest))

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
        return Box(await self._keys.current(tenant), Thing(tenant, _KIND, digest))

    async def take(self, tenant: str, sealed: Path, digest: str) -> None:
        """Takes over a file that was sealed by `box`."""
        await self._under.keep(tenant, sealed, digest)

    async def has(self, tenant: str, digest: str) -> bool:
        """Whether a blob is there and sealed, and its end opens: with a key that is there, and nothing cut off."""
        try:
            if (found := await self._find(tenant, digest)) is None:
                return False
            await self._run(tenant, digest, found, _final(found), 1)
        except Failure as failure:
            if failure.code not in _LOST:
                raise
            return False
        return True


def _final(found: _Found) -> int:
    """The number of the last chunk."""
    return max(0, -(-found.size // CHUNK) - 1)
