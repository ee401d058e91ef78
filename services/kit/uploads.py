"""Resumable uploads: chunks at their offset, then the whole by its digest (RELIABILITY S9).

The port and its near adapter, files beside the blobs of the folder.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.kit.blobs import FolderBlobs
from services.kit.digests import hash_of
from services.kit.disk import append, locked, sync
from services.kit.errors import Code, Failure, NotFound
from services.kit.leftovers import EVERY, clear
from services.kit.timestamps import uuid7

log = logging.getLogger(__name__)
Copy = Callable[[Path], Path]  # a file for the store of what an upload's file has; raises digest_mismatch
GRACE = 24 * 3600.0  # seconds after its last chunk that an upload may still be gone on with
_UPLOAD = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\Z")


@dataclass(frozen=True)
class UploadStatus:
    """How far an upload is; `digest` is set once it is committed."""

    upload: str
    size: int
    digest: str = ""


class Uploads(Protocol):
    """Uploads on their way into a blob store."""

    async def begin(self, tenant: str) -> UploadStatus:
        """Opens an upload."""

    async def abandon(self, tenant: str, upload: str) -> None:
        """Removes one whose id nobody was given."""

    async def status(self, tenant: str, upload: str) -> UploadStatus:
        """Raises not_found."""

    async def write(self, tenant: str, upload: str, offset: int, data: bytes) -> UploadStatus:
        """Stores a chunk. Raises not_found; wrong_offset, with what is committed; failed_precondition at its end."""

    async def commit(self, tenant: str, upload: str, digest: str) -> UploadStatus:
        """Ends an upload; a second time changes nothing. Raises digest_mismatch, and then keeps nothing."""

    async def collect(self, age: float = GRACE) -> int:
        """Forgets what was not committed and has had no chunk for `age` seconds; how many uploads that were."""


async def collect_for_ever(uploads: Uploads) -> None:
    """The task of a service that takes uploads."""
    while True:
        await asyncio.sleep(EVERY)
        try:
            if gone := await uploads.collect():
                log.info("removed %d abandoned uploads", gone)
        except (Failure, OSError) as error:
            log.warning("abandoned uploads are removed later: %s", error)


def check_upload(upload: str) -> str:
    """The id of an upload, which may be part of a path. Raises not_found for any other text."""
    if not _UPLOAD.match(upload):
        raise NotFound("there is no such upload")
    return upload


class FolderUploads:
    """Uploads as files: `<tenant>/uploads/<upload>`, and a note `<upload>.done` when it is committed."""

    def __init__(self, blobs: FolderBlobs) -> None:
        self._blobs = blobs

    async def begin(self, tenant: str) -> UploadStatus:
        return await self._blobs.run(self._begin, tenant)

    async def abandon(self, tenant: str, upload: str) -> None:
        await self._blobs.run(lambda: self._upload(tenant, upload).unlink(missing_ok=True))

    async def status(self, tenant: str, upload: str) -> UploadStatus:
        return await self._blobs.run(self._status, tenant, upload)

    async def write(self, tenant: str, upload: str, offset: int, data: bytes) -> UploadStatus:
        return await self._blobs.run(self._write, tenant, upload, offset, data)

    async def commit(self, tenant: str, upload: str, digest: str) -> UploadStatus:
        return await self._blobs.run(self._commit, tenant, upload, digest)

    async def collect(self, age: float = GRACE) -> int:
        return await self._blobs.run(self._collect, time.time() - age)

    def _collect(self, before: float) -> int:
        """A file in `scratch`, or a note that is not in its place yet, was left by a crash."""
        gone = 0
        for scratch in self._blobs.folder.glob("*/scratch"):
            clear(scratch)  # also what a killed training had in a folder of its own
        for file in (*self._blobs.folder.glob("*/scratch/*"), *self._blobs.folder.glob("*/uploads/*")):
            if file.suffix == ".done" or file.is_dir():
                continue
            with locked(file):
                if file.exists() and file.stat().st_mtime < before:
                    file.unlink()
                    gone += _UPLOAD.match(file.name) is not None and file.parent.name == "uploads"
        return gone

    def _begin(self, tenant: str) -> UploadStatus:
        upload = uuid7()
        file = self._upload(tenant, upload)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        sync(file.parent)
        return UploadStatus(upload, 0)

    def _upload(self, tenant: str, upload: str) -> Path:
        return self._blobs.folder / tenant / "uploads" / check_upload(upload)

    def _status(self, tenant: str, upload: str) -> UploadStatus:
        file = self._upload(tenant, upload)
        done = file.with_suffix(".done")
        if done.exists():
            size, digest = done.read_text().split()
            return UploadStatus(upload, int(size), digest)
        if not file.exists():
            raise NotFound(f"there is no upload {upload}")
        return UploadStatus(upload, self._size(file))

    def _size(self, file: Path) -> int:
        return file.stat().st_size

    def _write(self, tenant: str, upload: str, offset: int, data: bytes) -> UploadStatus:
        with locked(self._upload(tenant, upload)):
            self._check(tenant, upload, offset)
            append(self._upload(tenant, upload), data)
            return UploadStatus(upload, offset + len(data))

    def _check(self, tenant: str, upload: str, offset: int) -> None:
        """Raises not_found, wrong_offset, failed_precondition where no chunk can come."""
        status = self._status(tenant, upload)
        if status.digest:
            raise Failure(Code.FAILED_PRECONDITION, f"upload {upload} is committed")
        if offset != status.size:
            text = f"the chunk begins at {offset}, stored are {status.size} bytes"
            raise Failure(Code.WRONG_OFFSET, text, committed_size=status.size)

    def _commit(self, tenant: str, upload: str, digest: str, copy: Copy | None = None) -> UploadStatus:
        with locked(self._upload(tenant, upload)):
            return self._end(tenant, upload, digest, copy)

    def _end(self, tenant: str, upload: str, digest: str, copy: Copy | None) -> UploadStatus:
        status = self._status(tenant, upload)
        if status.digest:
            if status.digest != digest:
                raise Failure(Code.DIGEST_MISMATCH, f"upload {upload} was committed as {status.digest}")
            return status
        file = self._upload(tenant, upload)
        try:
            # A copy comes first, so that a crash before the note leaves an upload that can be committed again.
            made = copy(file) if copy else self._linked(tenant, file, digest)
        except Failure as failure:
            if failure.code is Code.DIGEST_MISMATCH:
                file.unlink()
            raise
        self._blobs.take(tenant, made, digest, over=copy is not None)
        note = file.with_suffix(f".{uuid7()}")
        note.write_text(f"{status.size} {digest}")
        sync(note)
        os.replace(note, file.with_suffix(".done"))
        file.unlink()
        sync(file.parent)
        return UploadStatus(upload, status.size, digest)

    def _linked(self, tenant: str, file: Path, digest: str) -> Path:
        if hash_of(file) != digest:
            raise Failure(Code.DIGEST_MISMATCH, f"the bytes do not hash to {digest}")
        copy = self._blobs.scratch(tenant) / uuid7()
        os.link(file, copy)
        return copy
