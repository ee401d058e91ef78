"""Where tables lie: the port, and its near adapter, Delta Lake in a folder.

The rows of the database say what a version is; the Delta log tells other readers the same. A commit that the database
does not know of (a crash came between) is taken over by its own run or undone by the next one, see `delta`.
"""

import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
from pydantic import TypeAdapter

from services.data.datasets import delta, rows
from services.data.datasets.domain import Location, NewVersion, WrittenFile
from services.data.datasets.threads import FileThreads
from services.data.schema import Column
from services.kit.adapters import Storage
from services.kit.auth import Scope
from services.kit.digests import hash_of
from services.kit.disk import replace, sync
from services.kit.errors import Code, FailedPrecondition, Failure

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_MANIFEST = "_manifest.json"
_NEW_VERSION = TypeAdapter(NewVersion)


def name_of(scope: Scope, data_set: str) -> str:
    """Where a table lies: `<tenant>/<project>/<data_set>`. Raises invalid_name for what cannot be part of a path."""
    for part in (*scope, data_set):
        if not _PART.match(part):
            raise Failure(Code.INVALID_NAME, f"{part[:80]!r} cannot be part of a table's name")
    return "/".join((*scope, data_set))


def check_run(run: str) -> str:
    """The name of a run, as a part of a path. Raises invalid_name."""
    if not _PART.match(run):
        raise Failure(Code.INVALID_NAME, f"{run[:80]!r} cannot be the name of a run")
    return run


def manifest(new: NewVersion) -> bytes:
    """What a run wants to add, as it is kept beside its files."""
    return orjson.dumps(_NEW_VERSION.dump_python(new, mode="json"))


def recalled(text: bytes) -> NewVersion:
    """What `manifest` wrote."""
    return _NEW_VERSION.validate_python(orjson.loads(text))


@dataclass(frozen=True)
class RowRange:
    """Some columns of `count` rows of files, from row `start` on."""

    files: Sequence[WrittenFile]
    columns: Sequence[Column]
    start: int
    count: int


class Tables(Protocol):
    """Keeps tables, a folder of files per run, and a log of versions per table."""

    def uri(self, scope: Scope, data_set: str) -> str:
        """Of the table, as readers understand it."""

    async def prepare(self, scope: Scope, data_set: str, run: str) -> Path:
        """An empty folder for the files of a run."""

    def folder(self, scope: Scope, data_set: str, run: str) -> Path:
        """That folder, as it is; it may be gone when the run was kept."""

    def holding(
        self, scope: Scope, data_set: str, run: str, files: Sequence[WrittenFile]
    ) -> AbstractAsyncContextManager[Path]:
        """A folder below which the files of a run lie, kept or not, while the context lasts."""

    async def keep(self, scope: Scope, new: NewVersion) -> NewVersion:
        """Writes down what a run wants to add, so that a crash does not lose it; its files may get other paths."""

    async def recall(self, scope: Scope, data_set: str, run: str) -> NewVersion | None:
        """What `keep` returned, if it did."""

    async def write(
        self, scope: Scope, new: NewVersion, columns: Sequence[Column], files: Sequence[WrittenFile]
    ) -> int:
        """Makes the table hold exactly these files; returns the number of the Delta version that does.

        Raises conflict when another instance wrote to the table at the same time.
        """

    async def discard(self, scope: Scope, data_set: str, run: str) -> None:
        """Removes the files of a run that was never committed."""

    async def read(self, scope: Scope, data_set: str, wanted: RowRange) -> list[dict[str, Any]]:
        """Rows in stored order as JSON values; fewer than wanted when they are large."""

    def placed(self, scope: Scope, location: Location) -> Location:
        """A version with paths of all its files below its URI, also of those that lie in the table of another."""

    def local(self, scope: Scope, location: Location) -> AbstractAsyncContextManager[Location]:
        """A version as a folder of this machine that is a Delta table, while the context lasts."""

    async def close(self) -> None: ...


class FolderTables:
    """`<folder>/<tenant>/<project>/<data_set>/<run>/part-00000.parquet`, and `_delta_log` beside the runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = FileThreads()
        self._run = self._threads.run

    def uri(self, scope: Scope, data_set: str) -> str:
        return str(self._table(scope, data_set))

    async def prepare(self, scope: Scope, data_set: str, run: str) -> Path:
        return await self._run(self._prepare, self._run_folder(scope, data_set, run))

    def folder(self, scope: Scope, data_set: str, run: str) -> Path:
        return self._run_folder(scope, data_set, run)

    @contextlib.asynccontextmanager
    async def holding(self, scope: Scope, data_set: str, run: str, files: Sequence[WrittenFile]) -> AsyncIterator[Path]:
        yield self._table(scope, data_set)

    async def keep(self, scope: Scope, new: NewVersion) -> NewVersion:
        folder = self._run_folder(scope, new.data_set, new.run)
        await self._run(replace, folder / _MANIFEST, manifest(new))
        if new.layout:
            await self._run(_tidy, folder, {file.path for file in (*new.files, *new.quarantine)})
        return new

    async def recall(self, scope: Scope, data_set: str, run: str) -> NewVersion | None:
        return await self._run(_recall, self._run_folder(scope, data_set, run))

    async def write(
        self, scope: Scope, new: NewVersion, columns: Sequence[Column], files: Sequence[WrittenFile]
    ) -> int:
        table = self._table(scope, new.data_set)
        # Those of older versions are here already.
        named = [file for file in new.files if file.home]
        shared = [(self._table(scope, file.home) / file.path, table / file.path, file.digest) for file in named]
        await self._run(_link, shared)
        return await self._run(delta.write, table, new.run, columns, files)

    async def discard(self, scope: Scope, data_set: str, run: str) -> None:
        await self._run(lambda: shutil.rmtree(self._run_folder(scope, data_set, run), ignore_errors=True))

    async def read(self, scope: Scope, data_set: str, wanted: RowRange) -> list[dict[str, Any]]:
        table = self._table(scope, data_set)
        pairs = [(str(table / file.path), file.rows) for file in wanted.files]
        return await self._run(rows.read, pairs, tuple(wanted.columns), wanted.start, wanted.count)

    def placed(self, scope: Scope, location: Location) -> Location:
        return location

    @contextlib.asynccontextmanager
    async def local(self, scope: Scope, location: Location) -> AsyncIterator[Location]:
        yield location

    async def close(self) -> None:
        self._threads.close()

    def _table(self, scope: Scope, data_set: str) -> Path:
        return self._folder / name_of(scope, data_set)

    def _run_folder(self, scope: Scope, data_set: str, run: str) -> Path:
        return self._table(scope, data_set) / check_run(run)

    def _prepare(self, folder: Path) -> Path:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        sync(folder.parent)
        return folder


def open_tables(storage: Storage, folder: Path) -> Tables:
    """Tables in a folder of this machine, or where the blobs are."""
    if storage.bucket is None or storage.passing is None:
        return FolderTables(folder)
    from services.data.datasets.tables_s3 import S3Tables
    from services.kit.sealed_objects import SealedObjects

    objects = SealedObjects(storage.bucket, storage.keys)
    return S3Tables(storage.bucket, objects, storage.mirrors, storage.passing / "tables")


def _link(shared: Sequence[tuple[Path, Path, str]]) -> None:
    """Gives files a second name in another table, which is as good as the first: only both together free the bytes.

    Raises failed_precondition where the name is that of another file.
    """
    folders = dict[Path, None]()
    for there, here, digest in shared:
        if not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            os.link(there, here)
        elif not (there.exists() and there.samefile(here)) and hash_of(here) != digest:
            raise FailedPrecondition(
                "one run has written files of the same names to both data sets: neither can be merged"
            )
        # Also of a name that is there: who made it may have died before it was on the disk.
        folders |= {here.parent: None, here.parent.parent: None}
    for folder in folders:
        sync(folder)


def _tidy(folder: Path, named: Set[str]) -> None:
    """Removes the files of a run that were divided into others."""
    for path in folder.glob("*.parquet"):
        if f"{folder.name}/{path.name}" not in named:
            path.unlink()


def _recall(folder: Path) -> NewVersion | None:
    try:
        text = (folder / _MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    return recalled(text)
