"""Bytes by digest: `<tenant>/sha256/<2>/<digest>` (RELIABILITY S9). `uploads` has what is not whole yet.

The port and its near adapter, a folder. Safe for several processes: a file is written aside, synced, and linked to its
place. Verified on write and on read.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from services.kit.digests import Seen, digest_of, hash_of, name_of
from services.kit.disk import on_disk, sync
from services.kit.errors import Code, Failure, NotFound
from services.kit.timestamps import uuid7

T = TypeVar("T")
CHUNK = 2**20


class Blobs(Protocol):
    """Keeps bytes of tenants. Every method raises invalid_value for what is no digest, and storage_full;
    a far one unavailable."""

    def scratch(self, tenant: str) -> Path:
        """A folder of this machine for files that are then taken over with `adopt`."""

    async def put(self, tenant: str, data: bytes) -> str:
        """Keeps bytes; returns their digest when they are safe."""

    async def adopt(self, tenant: str, file: Path) -> str:
        """Takes a file of this machine over; returns its digest when its bytes are safe."""

    async def get(self, tenant: str, digest: str) -> bytes:
        """All bytes. Raises not_found; digest_mismatch when the store has changed them."""

    def local(self, tenant: str, digest: str) -> AbstractAsyncContextManager[Path]:
        """A file of this machine with the bytes, for as long as the context lasts; for child processes.

        Not to be written to. Raises not_found, digest_mismatch.
        """

    async def exists(self, tenant: str, digest: str) -> bool:
        """Whether it is kept."""

    async def size(self, tenant: str, digest: str) -> int:
        """Bytes. Raises not_found."""

    def read(self, tenant: str, digest: str, offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes from an offset on, in pieces. Raises not_found; digest_mismatch before the first piece."""

    async def delete(self, tenant: str, digest: str) -> None:
        """Forgets a blob; the caller knows that nothing names it."""

    def close(self) -> None: ...


class FolderBlobs:
    """The near store: a folder. Names are digests and ids of ours; no caller's text becomes a path."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.at_once, self.is_far, self._seen = folder, CHUNK, False, Seen()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="blobs")

    def path(self, tenant: str, digest: str) -> Path:
        """Where a blob lies. Raises invalid_value for what is no digest."""
        return self.folder / name_of(tenant, digest)

    def scratch(self, tenant: str) -> Path:
        folder = self.folder / tenant / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def put(self, tenant: str, data: bytes) -> str:
        return await self.run(self._put, tenant, data)

    async def adopt(self, tenant: str, file: Path) -> str:
        return await self.run(self.take, tenant, file)

    async def get(self, tenant: str, digest: str) -> bytes:
        return await self.run(self._get, tenant, digest)

    @contextlib.asynccontextmanager
    async def local(self, tenant: str, digest: str) -> AsyncIterator[Path]:
        yield await self.run(self._right, tenant, digest)

    async def exists(self, tenant: str, digest: str) -> bool:
        return await self.run(lambda: self.path(tenant, digest).is_file())

    async def size(self, tenant: str, digest: str) -> int:
        return await self.run(lambda: self._existing(tenant, digest).stat().st_size)

    async def read(self, tenant: str, digest: str, offset: int = 0) -> AsyncIterator[bytes]:
        # Open all the while: another file may come to its place, with the same bytes sealed.
        file = await self.run(self._verified, tenant, digest)
        try:
            size = os.fstat(file.fileno()).st_size
            if not 0 <= offset <= size:
                raise Failure(Code.WRONG_OFFSET, f"the offset is not between 0 and {size}", committed_size=size)
            while piece := await self.run(os.pread, file.fileno(), CHUNK, offset):
                offset += len(piece)
                yield piece
        finally:
            file.close()

    async def head(self, tenant: str, digest: str, count: int) -> tuple[bytes, int]:
        """The first bytes as they lie, and how many there are. Raises not_found."""
        return await self.run(self._head, tenant, digest, count)

    async def piece(self, tenant: str, digest: str, begin: int, end: int) -> bytes:
        """Bytes as they lie. Raises not_found."""
        return await self.run(self._piece, tenant, digest, begin, end)

    async def keep(self, tenant: str, file: Path, digest: str) -> None:
        """Takes a file of this machine over, also over what is there, under a name that is not checked."""
        await self.run(self.take, tenant, file, digest, True)

    async def delete(self, tenant: str, digest: str) -> None:
        await self.run(lambda: self.path(tenant, digest).unlink(missing_ok=True))

    def close(self) -> None:
        self._threads.shutdown()

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Runs file work in a thread of the store. Raises storage_full when its disk is."""
        with on_disk():
            return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args))

    def _existing(self, tenant: str, digest: str) -> Path:
        path = self.path(tenant, digest)
        if not path.is_file():
            raise NotFound(f"there is no {digest}")
        return path

    def _right(self, tenant: str, digest: str) -> Path:
        path = self._existing(tenant, digest)
        if not self._seen.right(path, digest):
            raise Failure(Code.DIGEST_MISMATCH, f"{digest} has been damaged on its disk")
        return path

    def _verified(self, tenant: str, digest: str) -> BinaryIO:
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(open(self._existing(tenant, digest), "rb"))
            if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" != digest:
                raise Failure(Code.DIGEST_MISMATCH, f"{digest} has been damaged on its disk")
            opened.pop_all()
            return file

    def _head(self, tenant: str, digest: str, count: int) -> tuple[bytes, int]:
        with open(self._existing(tenant, digest), "rb") as file:
            return file.read(count), os.fstat(file.fileno()).st_size

    def _piece(self, tenant: str, digest: str, begin: int, end: int) -> bytes:
        with open(self._existing(tenant, digest), "rb") as file:
            return os.pread(file.fileno(), end - begin, begin)

    def _get(self, tenant: str, digest: str) -> bytes:
        data = self._existing(tenant, digest).read_bytes()
        if digest_of(data) != digest:
            raise Failure(Code.DIGEST_MISMATCH, f"{digest} has been damaged on its disk")
        return data

    def _put(self, tenant: str, data: bytes) -> str:
        file = self.scratch(tenant) / uuid7()
        file.write_bytes(data)
        return self.take(tenant, file, digest_of(data))

    def take(self, tenant: str, file: Path, digest: str = "", over: bool = False) -> str:
        """`adopt`, for code that is in a thread already; a digest that is given is not checked."""
        sync(file)
        digest = digest or hash_of(file)
        place = self.path(tenant, digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        if over or not place.exists():
            file.chmod(0o444)
            os.replace(file, place)
            sync(place.parent)
        file.unlink(missing_ok=True)
        return digest


def pieces_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file."""
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def piece_of(path: Path, offset: int) -> bytes:
    """Some bytes of a file from an offset on; none at its end."""
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(CHUNK)
