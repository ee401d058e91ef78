"""Sealed objects of a bucket, each bound to its own name: the files of tables.

Plain objects, from before there were keys or from a process without one, are read as they are.
"""

import asyncio
from io import BytesIO
from pathlib import Path

from services.kit.blobs import pieces_of
from services.kit.bucket_s3 import Bucket
from services.kit.disk import on_disk
from services.kit.errors import Code, FailedPrecondition, Failure
from services.kit.sealed import (
    CHUNK,
    HEAD,
    TAG,
    Box,
    Sealer,
    Thing,
    box_of,
    damaged,
    number_of,
    plain_size,
    sealed_size,
)
from services.kit.tenant_keys import TenantKeys

KIND = "object"
_TRIES = 5  # to read an object that others replace, sealed anew
_STEP = 256 * 1024  # bytes that are opened at once, so that they are still in the CPU's cache when they are written
_WHOLE = CHUNK + TAG  # bytes of a chunk


class Opener:
    """Opens a stream of sealed bytes, from the head on, in pieces of any size."""

    def __init__(self, box: Box, size: int) -> None:
        """`size` is the number of plain bytes."""
        self._box, self._left, self._rest, self._index = box, sealed_size(size), bytearray(), -1

    def open(self, sealed: bytes) -> bytes:
        """The plain bytes of the chunks that are complete now. Raises digest_mismatch."""
        self._rest += sealed
        self._left -= len(sealed)
        if self._index < 0:
            if len(self._rest) < HEAD:
                return b""
            del self._rest[:HEAD]
            self._index = 0
        run = bytes(self._rest if self._left == 0 else self._rest[: len(self._rest) // _WHOLE * _WHOLE])
        plain = self._box.open_run(self._index, run, self._left == 0)
        del self._rest[: len(run)]
        self._index += len(run) // _WHOLE
        return plain

    def end(self) -> None:
        """Raises digest_mismatch unless all bytes have come."""
        if self._left:
            raise damaged(self._box.thing.name)


class SealedObjects:
    """A bucket of sealed objects. Raises what `Bucket` does, failed_precondition, digest_mismatch."""

    def __init__(self, bucket: Bucket, keys: TenantKeys | None) -> None:
        """Without keys, objects are stored plain."""
        self._bucket, self._keys = bucket, keys

    async def get(self, tenant: str, name: str) -> bytes:
        """The bytes of a small object."""
        data = await self._bucket.get(name)
        if not (number := number_of(data)):
            return data
        plain_size(len(data), name)
        box = await self._box(tenant, name, number, data[:HEAD])
        return await asyncio.to_thread(box.open_run, 0, data[HEAD:], True)

    async def put(self, tenant: str, name: str, data: bytes) -> None:
        """Stores a small object, or replaces it."""
        await self._bucket.put(name, await self._sealed(tenant, name, data))

    async def create(self, tenant: str, name: str, data: bytes) -> bool:
        """Stores a small object; False when there is one of this name, which stays."""
        return await self._bucket.create(name, await self._sealed(tenant, name, data))

    async def upload(self, tenant: str, name: str, file: Path) -> None:
        """Stores a file of any size, by a sealed copy beside it."""
        if self._keys is None:
            await self._bucket.upload(name, file)
            return
        box = Box(await self._keys.current(tenant), Thing(tenant, KIND, name))
        aside = file.with_name(f"{file.name}.sealed")
        try:
            with on_disk():
                await asyncio.to_thread(_seal_file, box, file, aside)
            await self._bucket.upload(name, aside)
        finally:
            await asyncio.to_thread(aside.unlink, missing_ok=True)

    async def download(self, tenant: str, name: str, file: Path) -> None:
        """Writes the plain bytes to a file, replacing it. Raises storage_full."""
        head, size = await self._bucket.head(name, HEAD)
        for left in reversed(range(_TRIES)):
            try:
                with on_disk():
                    await asyncio.to_thread(file.write_bytes, b"")
                    await self._fetch(tenant, name, file, head, size)
            except Failure as failure:
                before, (head, size) = head, await self._bucket.head(name, HEAD)
                if failure.code is not Code.DIGEST_MISMATCH or head == before or not left:
                    raise
                continue  # replaced meanwhile by the same bytes, sealed anew
            return

    async def _fetch(self, tenant: str, name: str, file: Path, head: bytes, size: int) -> None:
        if not (number := number_of(head)):
            await self._bucket.download(name, file, size)
            return
        opener = Opener(await self._box(tenant, name, number, head), plain_size(size, name))
        async for piece in self._bucket.read(name, size):
            await asyncio.to_thread(_append, file, opener, piece)
        opener.end()

    async def _sealed(self, tenant: str, name: str, plain: bytes) -> bytes:
        if self._keys is None:
            return plain
        box, out = Box(await self._keys.current(tenant), Thing(tenant, KIND, name)), BytesIO()
        sealer = Sealer(box, out)
        sealer.write(plain)
        sealer.end()
        return out.getvalue()

    async def _box(self, tenant: str, name: str, number: int, head: bytes) -> Box:
        if self._keys is None:
            raise FailedPrecondition(f"{name} is encrypted, and AIMASS_SECRETS_KEY is not set here")
        return box_of(head, await self._keys.find(tenant, number), Thing(tenant, KIND, name))


def _seal_file(box: Box, file: Path, aside: Path) -> None:
    with open(aside, "wb") as out:
        sealer = Sealer(box, out)
        for piece in pieces_of(file):
            sealer.write(piece)
        sealer.end()


def _append(file: Path, opener: Opener, piece: bytes) -> None:
    with open(file, "ab") as here:
        for at in range(0, len(piece), _STEP):
            here.write(opener.open(piece[at : at + _STEP]))
