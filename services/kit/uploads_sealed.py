"""Uploads as files, whose chunks lie sealed as they come."""

import os
from pathlib import Path

from services.kit import upload_frames as frames
from services.kit.blobs import FolderBlobs, pieces_of
from services.kit.blobs_sealed import SealedBlobs
from services.kit.digests import name_of
from services.kit.disk import append, locked
from services.kit.sealed import Key, sealed_file
from services.kit.tenant_keys import TenantKeys
from services.kit.uploads import FolderUploads, UploadStatus


class SealedFolderUploads(FolderUploads):
    """The near uploads under the keys of tenants. One that was begun before there were keys goes on as it is."""

    def __init__(self, blobs: FolderBlobs, sealed: SealedBlobs, keys: TenantKeys) -> None:
        super().__init__(blobs)
        self._sealed, self._keys = sealed, keys

    async def write(self, tenant: str, upload: str, offset: int, data: bytes) -> UploadStatus:
        return await self._blobs.run(self._add, tenant, upload, offset, data, await self._keys.current(tenant))

    async def commit(self, tenant: str, upload: str, digest: str) -> UploadStatus:
        name_of(tenant, digest)
        keys = await self._opening(tenant, self._upload(tenant, upload))
        box, scratch = await self._sealed.box(tenant, digest), self._blobs.scratch(tenant)

        def copy(file: Path) -> Path:
            if not frames.are_in(file):
                return sealed_file(scratch, box, pieces_of(file))
            return sealed_file(scratch, box, frames.pieces(file, frames.places(file), keys, tenant, upload))

        return await self._blobs.run(self._commit, tenant, upload, digest, copy)

    def _size(self, file: Path) -> int:
        return frames.size_of(file) if frames.are_in(file) else super()._size(file)

    async def _opening(self, tenant: str, file: Path) -> dict[int, Key]:
        numbers = await self._blobs.run(_numbers, file)
        return {number: await self._keys.find(tenant, number) for number in numbers}

    def _add(self, tenant: str, upload: str, offset: int, data: bytes, key: Key) -> UploadStatus:
        file = self._upload(tenant, upload)
        with locked(file):
            self._check(tenant, upload, offset)
            if data and frames.are_in(file):
                os.truncate(file, frames.end_of(file))
                append(file, frames.frame(key, tenant, upload, offset, data))
            elif data:
                append(file, data)
            return UploadStatus(upload, offset + len(data))


def _numbers(file: Path) -> set[int]:
    if not file.exists() or not frames.are_in(file):
        return set()
    return frames.numbers(file, frames.places(file))
