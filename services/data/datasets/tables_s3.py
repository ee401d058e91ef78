"""Tables in a bucket: `tables/<tenant>/<project>/<data_set>/`, a Delta Lake as in the folder, each object sealed.

A child writes to a folder of this machine; `keep` brings its files to the bucket under names that carry their digest,
so whoever does the same run again disturbs nothing. The log is written in a local copy of it, and its new entries are
made in the bucket only where there is none of their number: of two instances one is told `conflict`.
"""

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from services.data.datasets import delta, rows
from services.data.datasets.domain import Location, NewVersion, WrittenFile
from services.data.datasets.tables import RowRange, check_run, manifest, name_of, recalled
from services.data.datasets.threads import FileThreads
from services.data.schema import Column
from services.kit.auth import Scope
from services.kit.bucket_s3 import Bucket
from services.kit.digests import hash_of
from services.kit.errors import Code, Failure, Internal
from services.kit.mirrors import Mirrors
from services.kit.sealed_objects import SealedObjects
from services.kit.timestamps import uuid7

_MANIFEST = "_manifest.json"
_LOG, _LAST = "_delta_log", "_last_checkpoint"
_ENTRY = re.compile(r"(\d{20})\.(json|checkpoint\.parquet)\Z")
_AT_ONCE = 8  # objects on their way to or from the bucket


class S3Tables:
    """Tables in the bucket of the installation."""

    def __init__(self, bucket: Bucket, objects: SealedObjects, mirrors: Mirrors, folder: Path) -> None:
        """`objects` are those of the bucket; `folder`: of this machine, for what is not in the bucket yet."""
        self._bucket, self._objects, self._mirrors, self._folder = bucket, objects, mirrors, folder
        self._threads = FileThreads()
        self._run = self._threads.run
        self._turn = asyncio.Semaphore(_AT_ONCE)

    def uri(self, scope: Scope, data_set: str) -> str:
        return f"{self._bucket.uri}/{_table(scope, data_set)}"

    async def prepare(self, scope: Scope, data_set: str, run: str) -> Path:
        await self._bucket.delete([_note(scope, data_set, run)])
        return await self._run(_empty, self._local(scope, data_set, run))

    def folder(self, scope: Scope, data_set: str, run: str) -> Path:
        return self._local(scope, data_set, run)

    @contextlib.asynccontextmanager
    async def holding(self, scope: Scope, data_set: str, run: str, files: Sequence[WrittenFile]) -> AsyncIterator[Path]:
        folder = self._local(scope, data_set, run)
        if await self._run(folder.is_dir):
            yield folder.parent
            return
        async with self._mirrors.hold(scope.tenant, self.uri(scope, data_set), _digests(files)) as here:
            yield here

    async def keep(self, scope: Scope, new: NewVersion) -> NewVersion:
        folder = self._local(scope, new.data_set, new.run)
        kept = replace(new, files=_named(new.files), quarantine=_named(new.quarantine))
        if folder.exists():
            pairs = zip((*new.files, *new.quarantine), (*kept.files, *kept.quarantine), strict=True)
            fresh = [(folder.parent / old.path, file) for old, file in pairs if old != file]
            await self._each(self._upload(scope, new.data_set, *each) for each in fresh)
            await self._objects.put(scope.tenant, _note(scope, new.data_set, new.run), manifest(kept))
            await self._run(shutil.rmtree, folder)
        return kept

    async def recall(self, scope: Scope, data_set: str, run: str) -> NewVersion | None:
        try:
            return recalled(await self._objects.get(scope.tenant, _note(scope, data_set, run)))
        except FileNotFoundError:
            return None

    async def write(
        self, scope: Scope, new: NewVersion, columns: Sequence[Column], files: Sequence[WrittenFile]
    ) -> int:
        log = f"{_table(scope, new.data_set)}/{_LOG}"
        async with self._passing() as folder:
            there = await self._bring_log(scope.tenant, log, folder / _LOG)
            version = await self._run(delta.write, folder, new.run, columns, self._absolute(scope, files))
            await self._push_log(scope.tenant, log, folder / _LOG, there)
        return version

    async def discard(self, scope: Scope, data_set: str, run: str) -> None:
        await self._run(lambda: shutil.rmtree(self._local(scope, data_set, run), ignore_errors=True))
        prefix = f"{_table(scope, data_set)}/{check_run(run)}"
        await self._bucket.delete([item.name for item in await self._bucket.list(prefix)])

    async def read(self, scope: Scope, data_set: str, wanted: RowRange) -> list[dict[str, Any]]:
        needed, skipped = _page(wanted)
        uri, files = self._apart(scope, data_set, needed)
        async with self._mirrors.hold(scope.tenant, uri, _digests(files)) as folder:
            pairs = [(str(folder / file.path), file.rows) for file in files]
            return await self._run(rows.read, pairs, tuple(wanted.columns), wanted.start - skipped, wanted.count)

    def placed(self, scope: Scope, location: Location) -> Location:
        uri, files = self._apart(scope, location.version.data_set, location.files)
        return replace(location, uri=uri, files=files)

    @contextlib.asynccontextmanager
    async def local(self, scope: Scope, location: Location) -> AsyncIterator[Location]:
        location, found = self.placed(scope, location), location.version
        async with self._mirrors.hold(scope.tenant, location.uri, _digests(location.files)) as folder:
            number = await self._run(delta.write, folder, found.run, found.columns, location.files)
            yield replace(location, uri=str(folder), delta_version=number)

    async def close(self) -> None:
        self._threads.close()

    def _apart(self, scope: Scope, data_set: str, files: Sequence[WrittenFile]) -> tuple[str, tuple[WrittenFile, ...]]:
        """Where files lie: in the table, or, when some are in the table of another, in the folder of the project."""
        uri = self.uri(scope, data_set)
        if not any(file.home for file in files):
            return uri, tuple(files)
        apart = (replace(file, path=f"{file.home or data_set}/{file.path}", home="") for file in files)
        return uri.rpartition("/")[0], tuple(apart)

    def _absolute(self, scope: Scope, files: Sequence[WrittenFile]) -> list[WrittenFile]:
        """As a Delta log names them: those of another table by their URIs."""
        return [
            replace(file, path=f"{self.uri(scope, file.home)}/{file.path}") if file.home else file for file in files
        ]

    async def _upload(self, scope: Scope, data_set: str, file: Path, kept: WrittenFile) -> None:
        if await asyncio.to_thread(hash_of, file) != kept.digest:
            raise Internal(f"{kept.path} is not what its child wrote")
        await self._objects.upload(scope.tenant, f"{_table(scope, data_set)}/{kept.path}", file)

    async def _bring_log(self, tenant: str, log: str, folder: Path) -> frozenset[str]:
        """The entries that the newest version needs; the names of all that are there."""
        await self._run(lambda: folder.mkdir(parents=True))
        there = frozenset(item.name.rpartition("/")[2] for item in await self._bucket.list(log))
        first = 0
        if _LAST in there:
            last = await self._objects.get(tenant, f"{log}/{_LAST}")
            await self._run((folder / _LAST).write_bytes, last)
            first = int(orjson.loads(last)["version"])
        numbers = {name: int(match.group(1)) for name in there if (match := _ENTRY.match(name))}
        needed = [name for name, number in numbers.items() if number >= first]
        await self._each(self._objects.download(tenant, f"{log}/{name}", folder / name) for name in needed)
        return there

    async def _push_log(self, tenant: str, log: str, folder: Path, there: frozenset[str]) -> None:
        """New entries in their order, then a checkpoint of them. Raises conflict where one of that number is."""
        made = [path for path in await self._run(_entries, folder) if path.name not in there]
        for path in made:
            if path.suffix == ".json":
                await self._push_entry(tenant, f"{log}/{path.name}", await self._run(path.read_bytes))
        for path in made:
            if path.suffix == ".parquet":
                await self._objects.upload(tenant, f"{log}/{path.name}", path)
                last = await self._run((folder / _LAST).read_bytes)
                await self._objects.put(tenant, f"{log}/{_LAST}", last)

    async def _push_entry(self, tenant: str, name: str, entry: bytes) -> None:
        if not await self._objects.create(tenant, name, entry) and await self._objects.get(tenant, name) != entry:
            raise Failure(Code.CONFLICT, f"another instance wrote {name.rpartition('/')[2]} at the same time")

    @contextlib.asynccontextmanager
    async def _passing(self) -> AsyncIterator[Path]:
        folder = self._folder / f"log-{uuid7()}"
        try:
            yield folder
        finally:
            await asyncio.shield(self._run(lambda: shutil.rmtree(folder, ignore_errors=True)))

    def _local(self, scope: Scope, data_set: str, run: str) -> Path:
        return self._folder / name_of(scope, data_set) / check_run(run)

    async def _each(self, work: Iterable[Any]) -> None:
        async def one(part: Any) -> None:
            async with self._turn:
                await part

        try:
            async with asyncio.TaskGroup() as group:
                for part in work:
                    group.create_task(one(part))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None


def _table(scope: Scope, data_set: str) -> str:
    return f"tables/{name_of(scope, data_set)}"


def _note(scope: Scope, data_set: str, run: str) -> str:
    return f"{_table(scope, data_set)}/{check_run(run)}/{_MANIFEST}"


def _named(files: Iterable[WrittenFile]) -> tuple[WrittenFile, ...]:
    """With a part of their digest in their names; those that have it stay as they are."""

    def name(file: WrittenFile) -> str:
        stem, mark = file.path.removesuffix(".parquet"), file.digest[7:23]
        return file.path if stem.endswith(f"-{mark}") else f"{stem}-{mark}.parquet"

    return tuple(replace(file, path=name(file)) for file in files)


def _digests(files: Iterable[WrittenFile]) -> dict[str, str]:
    return {file.path: file.digest for file in files}


def _page(wanted: RowRange) -> tuple[list[WrittenFile], int]:
    """The files that hold a page of rows, and how many rows come before them."""
    needed, before, skipped = list[WrittenFile](), 0, 0
    for file in wanted.files:
        if before + file.rows <= wanted.start:
            skipped += file.rows
        elif before < wanted.start + wanted.count:
            needed.append(file)
        before += file.rows
    return needed, skipped


def _entries(folder: Path) -> list[Path]:
    """In the order of their numbers."""
    return sorted(path for path in folder.iterdir() if _ENTRY.match(path.name))


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
