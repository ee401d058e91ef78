"""Copies of far files on this machine: verified, kept by digest below a bound, shared by its processes.

A holder has files as hard links in a folder of its own, so dropping a copy takes nothing from it. What is on its way
lies there too. What a killed process held is found by its lock and dropped when others need the space.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from services.kit.digests import Seen, name_of
from services.kit.disk import clear, on_disk
from services.kit.errors import Code, Failure
from services.kit.timestamps import uuid7

log = logging.getLogger(__name__)
T = TypeVar("T")
Fetch = Callable[[str, Path], Awaitable[None]]
_AT_ONCE = 8  # fetches of one process
_FRESH = 10.0  # seconds in which a folder may not have its lock yet


class Copies:
    """A bounded folder of copies."""

    def __init__(self, folder: Path, most: int) -> None:
        """`most`: bytes of the copies that nobody holds; what is held may go beyond."""
        self._kept, self._held, self._most = folder / "kept", folder / "held", most
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="copies")
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._seen = Seen()
        self._more = True  # there may be more than fits

    @contextlib.asynccontextmanager
    async def hold(self, tenant: str, wanted: Mapping[str, str], fetch: Fetch) -> AsyncIterator[Path]:
        """A folder with the wanted files (digest by name), all of them verified, until the context ends.

        `fetch(name, place)` writes the bytes of a file that is not here. Raises what it raises, digest_mismatch when
        they are not those of the digest, and storage_full.
        """
        with on_disk():
            await self._run(self._prepare)
            view, lock = self._open()  # at once, not in a thread: what is cancelled in between would stay locked
        try:
            with on_disk():
                await self._gather(tenant, wanted, view, fetch)
            yield view
        finally:
            await asyncio.shield(self._run(_drop, view, lock))

    async def forget(self, tenant: str) -> None:
        """Drops what is kept of a tenant; whoever holds its files has them until the end."""
        with on_disk():
            await self._run(self._prepare)
            await self._run(clear, self._kept / tenant)
            await self._run(self._sweep)

    def close(self) -> None:
        self._threads.shutdown()

    async def _gather(self, tenant: str, wanted: Mapping[str, str], view: Path, fetch: Fetch) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for name, digest in wanted.items():
                    group.create_task(self._bring(tenant, digest, view, name, fetch))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        if self._more:
            self._more = False  # what is fetched meanwhile says so again
            if await self._run(self._evict):
                self._more = True

    async def _bring(self, tenant: str, digest: str, view: Path, name: str, fetch: Fetch) -> None:
        kept, place = self._kept / name_of(tenant, digest), view / name
        async with self._locks.setdefault(str(kept), asyncio.Lock()), self._turn:
            if await self._run(self._link, kept, digest, place):
                return
            passing = view / f".{uuid7()}"
            try:
                await fetch(name, passing)
                await self._run(self._keep, passing, kept, digest, place)
            finally:
                self._more = True
                await asyncio.shield(self._run(lambda: passing.unlink(missing_ok=True)))

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args))

    def _prepare(self) -> None:
        for folder in (self._kept, self._held):
            folder.mkdir(parents=True, exist_ok=True)

    def _open(self) -> tuple[Path, int]:
        """A folder for one holder, and the descriptor that locks it."""
        view = self._held / uuid7()
        view.mkdir()
        lock = os.open(view, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_SH)
        return view, lock

    def _link(self, kept: Path, digest: str, place: Path) -> bool:
        """Gives a copy that is here to a holder. One that its disk has changed is dropped."""
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(kept, place)
        except FileNotFoundError:
            return False
        if not self._seen.right(place, digest):
            place.unlink()
            kept.unlink(missing_ok=True)
            return False
        os.utime(place, ns=(time.time_ns(), os.stat(place).st_mtime_ns))
        return True

    def _keep(self, passing: Path, kept: Path, digest: str, place: Path) -> None:
        if not self._seen.right(passing, digest):
            log.error("%s has been damaged in its store, or was cut on its way", kept.relative_to(self._kept))
            raise Failure(Code.DIGEST_MISMATCH, f"{digest} has been damaged in its store")
        passing.chmod(0o444)
        os.link(passing, place)
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(passing, kept)

    def _evict(self) -> bool:
        """Drops the copies that were used longest ago until the rest fits; whether there is still more.

        One that is held would free nothing.
        """
        self._sweep()
        found = list(_files(self._kept))
        total = sum(state.st_size for _, state in found)
        for path, state in sorted(found, key=lambda pair: pair[1].st_atime_ns):
            if total <= self._most:
                break
            if state.st_nlink == 1:
                path.unlink(missing_ok=True)
                total -= state.st_size
        return total > self._most

    def _sweep(self) -> None:
        """Drops what processes that are gone have held: nobody has its lock."""
        for folder in self._held.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime < _FRESH:
                    continue
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
                finally:
                    os.close(lock)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            if path.is_file():
                yield path, state


def _drop(view: Path, lock: int) -> None:
    shutil.rmtree(view, ignore_errors=True)
    os.close(lock)
