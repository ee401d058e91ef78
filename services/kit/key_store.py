"""Where the keys of tenants lie, each wrapped by the installation's key, beside what they open.

The port and its near adapter, a folder.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from services.kit.disk import on_disk, sync
from services.kit.timestamps import uuid7

GONE = 0  # the number that says that a tenant's keys are destroyed, and stays


def by_tenant(names: Iterable[str]) -> Mapping[str, Collection[int]]:
    """The numbers of each tenant, from names that end with `<tenant>/<number>`."""
    numbers: dict[str, set[int]] = {}
    for name in names:
        *_, tenant, number = name.split("/")
        if number.isdigit():
            numbers.setdefault(tenant, set()).add(int(number))
    return numbers


class KeyStore(Protocol):
    """Where wrapped keys lie, by tenant and number. A far one raises unavailable."""

    async def load(self, tenant: str, known: Collection[int] = ()) -> Mapping[int, bytes]:
        """All of a tenant, with no bytes for those that are known; only GONE when they are destroyed."""

    async def add(self, tenant: str, number: int, wrapped: bytes) -> bool:
        """Keeps one; False when there is one of this number, which then stays."""

    async def replace(self, tenant: str, number: int, wrapped: bytes) -> None:
        """Keeps one in place of the one of this number, at no time none."""

    async def tenants(self) -> list[str]:
        """Those that have keys, or had some."""

    async def numbers(self) -> Mapping[str, Collection[int]]:
        """Of all tenants which numbers there are, by one look."""

    async def destroyed(self) -> list[str]:
        """Those whose keys are destroyed, or are being destroyed."""

    async def destroy(self, tenant: str) -> None:
        """Drops all of a tenant, for good; a second time, or for one that has none, it says so all the same."""


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
                with contextlib.suppress(FileNotFoundError):  # destroyed meanwhile; what says so is listed next time
                    found[number] = b"" if number in known else path.read_bytes()
        return found

    def _write(self, tenant: str, number: int, wrapped: bytes, put: Callable[[Path, Path], None]) -> bool:
        """Written aside and synced before it has its name; two processes may come at once."""
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
