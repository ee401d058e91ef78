"""The limit on how full the disk may be: above it nothing large is written, so that small writes go on (A18)."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from services.kit.errors import Code, Failure
from services.kit.uploads import GRACE, Uploads, UploadStatus

_OLD = 1.0  # seconds for which a measurement holds


class Space:
    """The limit on the disk of a folder."""

    def __init__(self, folder: Path, percent: int, ticks: Callable[[], float] = time.monotonic) -> None:
        """`percent` of the disk may be used; 100: no limit. `ticks` is a monotonic clock in seconds."""
        self._folder, self._percent, self._ticks = folder, percent, ticks
        self._used, self._until = 0.0, float("-inf")

    def check(self) -> None:
        """Raises storage_full while nothing large may be written. Measures at most once a second."""
        if self._percent >= 100:
            return
        if (now := self._ticks()) >= self._until:
            self._used, self._until = _used(self._folder), now + _OLD
        if self._used >= self._percent:
            text = f"{self._used:.0f} % of the disk are used: nothing large is written from {self._percent} % on"
            raise Failure(Code.STORAGE_FULL, text)


def _used(folder: Path) -> float:
    """Percent of what we may use; -1 for a disk that cannot be asked: writing to it will say why."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return -1.0
    used = found.f_blocks - found.f_bfree
    return 100 * used / max(used + found.f_bavail, 1)


class BoundedUploads:
    """Uploads that refuse writes above the limit; those that have begun can go on later."""

    def __init__(self, uploads: Uploads, space: Space) -> None:
        self._uploads, self._space = uploads, space

    async def begin(self, tenant: str) -> UploadStatus:
        self._space.check()
        return await self._uploads.begin(tenant)

    async def abandon(self, tenant: str, upload: str) -> None:
        await self._uploads.abandon(tenant, upload)

    async def status(self, tenant: str, upload: str) -> UploadStatus:
        return await self._uploads.status(tenant, upload)

    async def write(self, tenant: str, upload: str, offset: int, data: bytes) -> UploadStatus:
        self._space.check()
        return await self._uploads.write(tenant, upload, offset, data)

    async def commit(self, tenant: str, upload: str, digest: str) -> UploadStatus:
        try:
            self._space.check()  # committing makes a copy
        except Failure:
            if not (await self._uploads.status(tenant, upload)).digest:
                raise  # a repeat of a commit writes nothing
        return await self._uploads.commit(tenant, upload, digest)

    async def collect(self, age: float = GRACE) -> int:
        return await self._uploads.collect(age)
