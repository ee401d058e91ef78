"""Bytes by digest: `<tenant>/sha256/<2>/<digest>`, and resumable uploads (RELIABILITY S9).

Safe for several processes: a file is written aside, synced, and linked to its place. Verified on write and on read.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.kit.errors import Code, Failure, NotFound
from services.kit.timestamps import uuid7

T = TypeVar("T")
DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_UPLOAD = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
CHUNK = 2**20


@dataclass(frozen=True)
class UploadStatus:
    """How far an upload is; `digest` is set once it is committed."""

    upload: str
    size: int
    digest: str = ""


def digest_of(data: bytes) -> str:
    """sha256:<hex>"""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Blobs:
    """The near store: a folder. Names are digests and ids of ours; no caller's text becomes a path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="blobs")

    def path(self, tenant: str, digest: str) -> Path:
        """Where a blob lies, for a child process that reads it. Raises invalid_value for what is no digest."""
        match = DIGEST.match(digest)
        if not match:
            raise Failure(Code.INVALID_VALUE, "a digest is sha256: and 64 hex digits")
        name = match.group(1)
        return self._folder / tenant / "sha256" / name[:2] / name

    def scratch(self, tenant: str) -> Path:
        """A folder on the same disk, for files that are then taken over with `adopt`."""
        folder = self._folder / tenant / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def put(self, tenant: str, data: bytes) -> str:
        """Keeps bytes; returns their digest when they are on the disk."""
        return await self._run(self._put, tenant, data)

    async def adopt(self, tenant: str, file: Path) -> str:
        """Takes a file over; returns its digest when it is on the disk."""
        return await self._run(self._adopt, tenant, file, "")

    async def get(self, tenant: str, digest: str) -> bytes:
        """All bytes. Raises not_found; digest_mismatch when the disk has changed them."""
        return await self._run(self._get, tenant, digest)

    async def exists(self, tenant: str, digest: str) -> bool:
        return await self._run(lambda: self.path(tenant, digest).is_file())

    async def size(self, tenant: str, digest: str) -> int:
        """Bytes. Raises not_found."""
        return await self._run(lambda: self._existing(tenant, digest).stat().st_size)

    async def read(self, tenant: str, digest: str, offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes from an offset on, in pieces. Raises not_found; digest_mismatch before the first piece."""
        path = await self._run(self._verified, tenant, digest)
        if not 0 <= offset <= (size := path.stat().st_size):
            raise Failure(Code.WRONG_OFFSET, f"the offset is not between 0 and {size}", committed_size=size)
        while piece := await self._run(_piece, path, offset):
            offset += len(piece)
            yield piece

    async def delete(self, tenant: str, digest: str) -> None:
        """Forgets a blob; the caller knows that nothing names it."""
        await self._run(lambda: self.path(tenant, digest).unlink(missing_ok=True))

    async def begin(self, tenant: str) -> UploadStatus:
        """Opens an upload."""
        return await self._run(self._begin, tenant)

    async def status(self, tenant: str, upload: str) -> UploadStatus:
        """Raises not_found."""
        return await self._run(self._status, tenant, upload)

    async def write(self, tenant: str, upload: str, offset: int, data: bytes) -> UploadStatus:
        """Stores a chunk. Raises wrong_offset, with what is committed."""
        return await self._run(self._write, tenant, upload, offset, data)

    async def commit(self, tenant: str, upload: str, digest: str) -> UploadStatus:
        """Ends an upload; a second time changes nothing. Raises digest_mismatch, and then keeps nothing."""
        return await self._run(self._commit, tenant, upload, digest)

    def close(self) -> None:
        self._threads.shutdown()

    async def _run(self, work: "object", *args: object) -> T:  # type: ignore[type-var]
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)  # type: ignore[arg-type]

    def _existing(self, tenant: str, digest: str) -> Path:
        path = self.path(tenant, digest)
        if not path.is_file():
            raise NotFound(f"there is no {digest}")
        return path

    def _verified(self, tenant: str, digest: str) -> Path:
        path = self._existing(tenant, digest)
        if _hash(path) != digest:
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
        return self._adopt(tenant, file, digest_of(data))

    def _adopt(self, tenant: str, file: Path, digest: str) -> str:
        _sync(file)
        digest = digest or _hash(file)
        place = self.path(tenant, digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            file.chmod(0o444)
            os.replace(file, place)
            _sync(place.parent)
        file.unlink(missing_ok=True)
        return digest

    def _begin(self, tenant: str) -> UploadStatus:
        upload = uuid7()
        file = self._upload(tenant, upload)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        _sync(file.parent)
        return UploadStatus(upload, 0)

    def _upload(self, tenant: str, upload: str) -> Path:
        if not _UPLOAD.match(upload):
            raise NotFound("there is no such upload")
        return self._folder / tenant / "uploads" / upload

    def _status(self, tenant: str, upload: str) -> UploadStatus:
        file = self._upload(tenant, upload)
        done = file.with_suffix(".done")
        if done.exists():
            size, digest = done.read_text().split()
            return UploadStatus(upload, int(size), digest)
        if not file.exists():
            raise NotFound(f"there is no upload {upload}")
        return UploadStatus(upload, file.stat().st_size)

    def _write(self, tenant: str, upload: str, offset: int, data: bytes) -> UploadStatus:
        status = self._status(tenant, upload)
        if status.digest:
            raise Failure(Code.FAILED_PRECONDITION, f"upload {upload} is committed")
        if offset != status.size:
            text = f"the chunk begins at {offset}, stored are {status.size} bytes"
            raise Failure(Code.WRONG_OFFSET, text, committed_size=status.size)
        with open(self._upload(tenant, upload), "ab") as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                os.truncate(file.fileno(), offset)
                raise Failure(Code.STORAGE_FULL, "the disk is full") from error
        return UploadStatus(upload, offset + len(data))

    def _commit(self, tenant: str, upload: str, digest: str) -> UploadStatus:
        status = self._status(tenant, upload)
        if status.digest:
            if status.digest != digest:
                raise Failure(Code.DIGEST_MISMATCH, f"upload {upload} was committed as {status.digest}")
            return status
        file = self._upload(tenant, upload)
        if _hash(file) != digest:
            file.unlink()
            raise Failure(Code.DIGEST_MISMATCH, f"the bytes do not hash to {digest}")
        # A copy is linked first, so that a crash before the note leaves an upload that can be committed again.
        copy = self.scratch(tenant) / uuid7()
        os.link(file, copy)
        self._adopt(tenant, copy, digest)
        note = file.with_suffix(f".{uuid7()}")
        note.write_text(f"{status.size} {digest}")
        _sync(note)
        os.replace(note, file.with_suffix(".done"))
        file.unlink()
        _sync(file.parent)
        return UploadStatus(upload, status.size, digest)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _piece(path: Path, offset: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(CHUNK)
