"""Bytes by digest: `<tenant>/sha256/<2>/<digest>` (RELIABILITY S9). `uploads` has what is not whole yet.

Safe for several processes: a file is written aside, synced, and linked to its place. Verified on write and on read.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from services.kit.errors import Code, Failure, NotFound
from services.kit.timestamps import uuid7

T = TypeVar("T")
DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
CHUNK = 2**20


def digest_of(data: bytes) -> str:
    """sha256:<hex>"""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Blobs:
    """The near store: a folder. Names are digests and ids of ours; no caller's text becomes a path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="blobs")

    def path(self, tenant: str, digest: str) -> Path:
        """Where a blob lies, for a child process that reads it. Raises invalid_value for what is no digest."""
        match = DIGEST.match(digest)
        if not match:
            raise Failure(Code.INVALID_VALUE, "a digest is sha256: and 64 hex digits")
        name = match.group(1)
        return self.folder / tenant / "sha256" / name[:2] / name

    def scratch(self, tenant: str) -> Path:
        """A folder on the same disk, for files that are then taken over with `adopt`."""
        folder = self.folder / tenant / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def put(self, tenant: str, data: bytes) -> str:
        """Keeps bytes; returns their digest when they are on the disk."""
        return await self.run(self._put, tenant, data)

    async def adopt(self, tenant: str, file: Path) -> str:
        """Takes a file over; returns its digest when it is on the disk."""
        return await self.run(self.take, tenant, file)

    async def get(self, tenant: str, digest: str) -> bytes:
        """All bytes. Raises not_found; digest_mismatch when the disk has changed them."""
        return await self.run(self._get, tenant, digest)

    async def exists(self, tenant: str, digest: str) -> bool:
        return await self.run(lambda: self.path(tenant, digest).is_file())

    async def size(self, tenant: str, digest: str) -> int:
        """Bytes. Raises not_found."""
        return await self.run(lambda: self._existing(tenant, digest).stat().st_size)

    async def read(self, tenant: str, digest: str, offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes from an offset on, in pieces. Raises not_found; digest_mismatch before the first piece."""
        path = await self.run(self._verified, tenant, digest)
        size = path.stat().st_size
        if not 0 <= offset <= size:
            raise Failure(Code.WRONG_OFFSET, f"the offset is not between 0 and {size}", committed_size=size)
        while piece := await self.run(_piece, path, offset):
            offset += len(piece)
            yield piece

    async def delete(self, tenant: str, digest: str) -> None:
        """Forgets a blob; the caller knows that nothing names it."""
        await self.run(lambda: self.path(tenant, digest).unlink(missing_ok=True))

    def close(self) -> None:
        self._threads.shutdown()

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Runs file work in a thread of the store."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args))

    def _existing(self, tenant: str, digest: str) -> Path:
        path = self.path(tenant, digest)
        if not path.is_file():
            raise NotFound(f"there is no {digest}")
        return path

    def _verified(self, tenant: str, digest: str) -> Path:
        path = self._existing(tenant, digest)
        if hash_of(path) != digest:
            raise Failure(Code.DIGEST_MISMATCH, f"{digest} has been damaged on its disk")
        return path

    def _get(self, tenant: str, digest: str) -> bytes:
        data = self._existing(tenant, digest).read_bytes()
        if digest_of(data) != digest:
            raise Failure(Code.DIGEST_MISMATCH, f"{digest} has been damaged on its disk")
        return data

    def _put(self, tenant: str, data: bytes) -> str:
        file = self.scratch(tenant) / uuid7()
        file.write_bytes(data)
        return self.take(tenant, file, digest_of(data))

    def take(self, tenant: str, file: Path, digest: str = "") -> str:
        """`adopt`, for code that is in a thread already; a digest that is given is believed."""
        sync(file)
        digest = digest or hash_of(file)
        place = self.path(tenant, digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            file.chmod(0o444)
            os.replace(file, place)
            sync(place.parent)
        file.unlink(missing_ok=True)
        return digest


def sync(path: Path) -> None:
    """Brings a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_of(path: Path) -> str:
    """The digest of a file."""
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _piece(path: Path, offset: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(CHUNK)
