"""The far blobs: the layout of the folder as objects `blobs/<tenant>/sha256/<2>/<digest>` of a bucket.

What is read in pieces or as a file is brought to this machine first and verified there, so nobody sees a piece of
damaged bytes. A name says what the bytes are, so writing a blob a second time changes nothing.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from services.kit.blobs import piece_of
from services.kit.bucket_s3 import PIECE, Bucket
from services.kit.copies import Copies
from services.kit.digests import digest_of, hash_of, name_of
from services.kit.errors import Code, Failure, NotFound

log = logging.getLogger(__name__)


class S3Blobs:
    """Blobs in a bucket."""

    at_once, is_far = PIECE // 2, True  # one is used while another one comes

    def __init__(self, bucket: Bucket, copies: Copies, scratch: Path) -> None:
        """`scratch`: a folder of this machine for files on their way."""
        self._bucket, self._copies, self._scratch = bucket, copies, scratch

    def scratch(self, tenant: str) -> Path:
        folder = self._scratch / tenant
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def put(self, tenant: str, data: bytes) -> str:
        digest = await asyncio.to_thread(digest_of, data)
        await self._bucket.create(_name(tenant, digest), data)
        return digest

    async def adopt(self, tenant: str, file: Path) -> str:
        digest = await asyncio.to_thread(hash_of, file)
        await self.take(tenant, file, digest)
        return digest

    async def take(self, tenant: str, file: Path, digest: str) -> None:
        """`adopt`, of a file whose digest is known."""
        if await asyncio.to_thread(os.path.getsize, file) <= PIECE:
            await self._bucket.create(_name(tenant, digest), await asyncio.to_thread(file.read_bytes))
        elif not await self.exists(tenant, digest):
            # A large object cannot be made conditionally; whoever writes this name writes the same bytes.
            await self._bucket.upload(_name(tenant, digest), file)
        await asyncio.to_thread(file.unlink)

    async def keep(self, tenant: str, file: Path, digest: str) -> None:
        """Takes a file of this machine over, also over what is there, under a name that is not checked."""
        if await asyncio.to_thread(os.path.getsize, file) <= PIECE:
            await self._bucket.put(_name(tenant, digest), await asyncio.to_thread(file.read_bytes))
        else:
            await self._bucket.upload(_name(tenant, digest), file)
        await asyncio.to_thread(file.unlink)

    async def head(self, tenant: str, digest: str, count: int) -> tuple[bytes, int]:
        """The first bytes as they lie, and how many there are. Raises not_found."""
        with _missing(digest):
            return await self._bucket.head(_name(tenant, digest), count)

    async def piece(self, tenant: str, digest: str, begin: int, end: int) -> bytes:
        """Bytes as they lie. Raises not_found."""
        with _missing(digest):
            return await self._bucket.piece(_name(tenant, digest), begin, end)

    async def get(self, tenant: str, digest: str) -> bytes:
        with _missing(digest):
            data = await self._bucket.get(_name(tenant, digest))
        if await asyncio.to_thread(digest_of, data) != digest:
            log.error("%s of %s has been damaged in its store, or was cut on its way", digest, tenant)
            raise Failure(Code.DIGEST_MISMATCH, f"{digest} has been damaged in its store")
        return data

    @contextlib.asynccontextmanager
    async def local(self, tenant: str, digest: str) -> AsyncIterator[Path]:
        name = _name(tenant, digest)

        async def fetch(_: str, place: Path) -> None:
            with _missing(digest):
                await self._bucket.download(name, place)

        async with self._copies.hold(tenant, {"blob": digest}, fetch) as folder:
            yield folder / "blob"

    async def exists(self, tenant: str, digest: str) -> bool:
        try:
            await self._bucket.stat(_name(tenant, digest))
        except FileNotFoundError:
            return False
        return True

    async def size(self, tenant: str, digest: str) -> int:
        with _missing(digest):
            return (await self._bucket.stat(_name(tenant, digest))).size

    async def read(self, tenant: str, digest: str, offset: int = 0) -> AsyncIterator[bytes]:
        # Asked first: a copy that is here must not outlive its blob for readers.
        size = await self.size(tenant, digest)
        if not 0 <= offset <= size:
            raise Failure(Code.WRONG_OFFSET, f"the offset is not between 0 and {size}", committed_size=size)
        async with self.local(tenant, digest) as path:
            while piece := await asyncio.to_thread(piece_of, path, offset):
                offset += len(piece)
                yield piece

    async def delete(self, tenant: str, digest: str) -> None:
        await self._bucket.delete([_name(tenant, digest)])

    def close(self) -> None:
        self._copies.close()


def _name(tenant: str, digest: str) -> str:
    return f"blobs/{name_of(tenant, digest)}"


@contextlib.contextmanager
def _missing(digest: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"there is no {digest}") from None
