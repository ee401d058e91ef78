"""The store of tenants' keys, each wrapped by the installation's key: the port and its near adapter, a folder."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from services.kit.disk import on_disk, sync
from services.kit.timestamps import uuid7

GONE = 0  # the number of the mark that a tenant's keys are destroyed, which stays


def by_tenant(names: Iterable[str]) -> Mapping[str, Collection[int]]:
    """The numbers of keys by tenant, from names that end with `<tenant>/<number>`."""
    numbers: dict[str, set[int]] = {}
    for name in names:
        *_, tenant, number = name.split("/")
        if number.isdigit():
            numbers.setdefault(tenant, set()).add(int(number))
    return numbers


class KeyStore(Protocol):
    """Wrapped keys by tenant and number. A far store raises unavailable."""

    async def load(self, tenant: str, known: Collection[int] = ()) -> Mapping[int, bytes]:
        """A tenant's keys, without bytes for those that are `known`; with GONE when they are destroyed."""

    async def add(self, tenant: str, number: int, wrapped: bytes) -> bool:
        """Stores a key; False when there is one of this number, which stays."""

    async def replace(self, tenant: str, number: int, wrapped: bytes) -> None:
        """Replaces the key of this number atomically."""

    async def tenants(self) -> list[str]:
        """The tenants that have or had keys."""

    async def numbers(self) -> Mapping[str, Collection[int]]:
        """The numbers of all tenants, by one request."""

    async def destroyed(self) -> list[str]:
        """The tenants whose keys are destroyed or are being destroyed."""

    async def destroy(self, tenant: str) -> None:
        """Marks a tenant's keys as destroyed, then deletes them; also for a tenant that has none. Idempotent."""


class FolderKeys:
    """The near store: `<tenant>/<number>`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def load(self, tenant: str, known: Collection[int] = ()) -> Mapping[int, bytes]:
        return await asyncio.to_thread(self._load, tenant, known)

    async def add(self, tenant: str, number: int, wrapped: bytes) -> bool:
        return await asyncio.to_thread(self._write, tenant, number, wrapped, os.link)

    async def replace(self, tenant: str, number: int, wrapped: bytes) -> None:
        await asyncio.to_thread(self._write, tenant, number, wrapped, os.replace)

    async def tenants(self) -> list[str]:
        return await asyncio.to_thread(lambda: sorted(path.name for path in self._folder.glob("*")))

    async def numbers(self) -> Mapping[str, Collection[int]]:
        return await asyncio.to_thread(lambda: by_tenant(path.as_posix() for path in self._folder.glob("*/[0-9]*")))

    async def destroyed(self) -> list[str]:
        return await asyncio.to_thread(lambda: sorted(path.parent.name for path in self._folder.glob(f"*/{GONE}")))

    async def destroy(self, tenant: str) -> None:
        await self.add(tenant, GONE, b"")
        await asyncio.to_thread(self._destroy, tenant)

    def _load(self, tenant: str, known: Collection[int]) -> Mapping[int, bytes]:
        found = {}
        for path in (self._folder / tenant).glob("*"):
            if path.name.isdigit():
                number = int(path.name)
                with contextlib.suppress(FileNotFoundError):  # destroyed meanwhile; the next call sees the mark
                    found[number] = b"" if number in known else path.read_bytes()
        return found

    def _write(self, tenant: str, number: int, wrapped: bytes, put: Callable[[Path, Path], None]) -> bool:
        """Writes a temporary file, syncs it and gives it its name; two processes may do so at once."""
        here = self._folder / tenant
        with on_disk():
            here.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside = here / f".{uuid7()}"
            try:
                with os.fdopen(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                    file.write(wrapped)
                    file.flush()
                    os.fsync(file.fileno())
                put(aside, here / str(number))
            except FileExistsError:
                return False
            finally:
                aside.unlink(missing_ok=True)
            sync(here)
            sync(self._folder)
        return True

    def _destroy(self, tenant: str) -> None:
        here = self._folder / tenant
        for path in here.iterdir():
            if path.name != str(GONE):
                path.unlink(missing_ok=True)
        sync(here)
