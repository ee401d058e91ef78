"""Writing the archive of a running stack."""

import asyncio
import os
import re
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from aimass.backup import Archive, Made, new
from services.kit.bucket_s3 import PIECE, Bucket, Stored
from services.kit.disk import on_disk
from services.kit.errors import Code, FailedPrecondition, Failure
from services.kit.key_store import GONE
from services.kit.sealed import HEAD, Thing, check_file, number_of
from services.kit.stack import copy_postgresql as copy
from services.kit.stack.offsets_kafka import Offsets
from services.kit.stack.settings import Stack
from services.kit.stack.snapshot import snapshot

FORMAT = "stack-1"
# Left out: the search index, which is rebuilt, and `uploads/`, which nobody has committed.
_INDEX = "index"
_ASIDE = ".new"  # suffix of a file that is about to replace another
_LOG, _LAST = "/_delta_log/", "/_last_checkpoint"
_BLOB = re.compile(r"blobs/([^/]+)/sha256/[0-9a-f]{2}/([0-9a-f]{64})\Z")
_PART = re.compile(r"tables/.*-([0-9a-f]{16})\.parquet\Z")
_AHEAD = 6  # objects fetched at a time
_TRIES = 5  # to fetch an object that is replaced meanwhile


def write(stack: Stack, file: Path) -> Made:
    """Writes all that a stack keeps, while its services run. Raises Failure, and then leaves no file."""
    with new(file) as archive, tempfile.TemporaryDirectory(prefix=".backup-", dir=file.parent) as scratch:
        with snapshot(stack, Offsets(stack.bus_url, stack.tls_dir)) as snapshots:
            databases = {name: _database(archive, name, snapshots[name], Path(scratch)) for name in snapshots}
        asyncio.run(_files(archive, stack, Path(scratch)))
        marks = {"secrets": dict(stack.secrets), "old_keys": sorted(stack.old)}
        return archive.seal({"format": FORMAT, "databases": databases, **marks})


def _database(archive: Archive, service: str, connection: Connection, scratch: Path) -> Mapping[str, Any]:
    tables = copy.tables(connection)
    for table, columns in tables.items():
        with tempfile.TemporaryFile(dir=scratch) as rows:
            copy.dump(connection, table, columns, rows)
            size = rows.tell()
            rows.seek(0)
            archive.add(f"databases/{service}/{table}", rows, size, 0o600)
    return {"revision": copy.revision(connection), "tables": tables, "counters": copy.counters(connection)}


async def _files(archive: Archive, stack: Stack, scratch: Path) -> None:
    """Objects and records, then the keys: one that is made meanwhile may have sealed what is already copied."""
    await _objects(archive, stack, scratch)
    await asyncio.to_thread(_records, archive, stack.records)
    for name, path in (await _keys(stack.bucket, scratch)).items():
        await asyncio.to_thread(_add, archive, name, path, False)


async def _objects(archive: Archive, stack: Stack, scratch: Path) -> None:
    """Objects are written before a database names them and never change; those that no row names do no harm."""
    async for item, path in _fetched(stack.bucket, await _listed(stack.bucket), scratch):
        name = item.name
        if path:
            sealed = await _sealed(stack, name, path)
            await asyncio.to_thread(_add, archive, name, path, sealed)
        elif not name.startswith("tables/"):
            await _check_shredded(stack.bucket, name)
        # A table's file that is gone is one that no version names.


async def _listed(bucket: Bucket) -> Sequence[Stored]:
    """The logs of tables first: what they name was written before. `_last_checkpoint` is left out: it is a hint."""
    logs = [item for item in await bucket.list("tables") if _LOG in item.name and not item.name.endswith(_LAST)]
    rest = [item for item in await bucket.list("tables") if _LOG not in item.name]
    return [*logs, *rest, *await bucket.list("blobs")]


async def _keys(bucket: Bucket, scratch: Path) -> Mapping[str, Path]:
    """Wrapped keys of tenants; of a tenant whose keys are or are being destroyed only the mark that says so."""
    found, shredded = dict[str, Path](), set[str]()
    async for item, path in _fetched(bucket, await bucket.list("keys"), scratch):
        name = item.name
        if path is None:
            name = await _check_shredded(bucket, name)
            path = scratch / f"gone-{_tenant(name)}"
            path.touch()
        found[name] = path
        if name.endswith(f"/{GONE}"):
            shredded.add(_tenant(name))
    return {name: found[name] for name in sorted(found) if name.endswith(f"/{GONE}") or _tenant(name) not in shredded}


async def _check_shredded(bucket: Bucket, name: str) -> str:
    """The name of the mark that its tenant is shredded, for an object that went away. Raises conflict without one."""
    gone = f"keys/{_tenant(name)}/{GONE}"
    try:
        await bucket.stat(gone)
    except FileNotFoundError:
        raise Failure(Code.CONFLICT, f"{name} went away while it was read") from None
    return gone


def _tenant(name: str) -> str:
    return name.split("/")[1]


async def _fetched(bucket: Bucket, items: Sequence[Stored], scratch: Path) -> AsyncIterator[tuple[Stored, Path | None]]:
    """Each object with a file of its bytes, in order; None for one that is gone."""
    coming: deque[tuple[Stored, asyncio.Task[Path | None]]] = deque()
    try:
        for number, item in enumerate(items):
            coming.append((item, asyncio.create_task(_fetch(bucket, item, scratch / str(number)))))
            if len(coming) == _AHEAD:
                first, task = coming.popleft()
                yield first, await task
        while coming:
            first, task = coming.popleft()
            yield first, await task
    finally:
        for _, task in coming:
            task.cancel()
        await asyncio.gather(*(task for _, task in coming), return_exceptions=True)


async def _fetch(bucket: Bucket, item: Stored, path: Path) -> Path | None:
    """A file with one version of an object: one that was replaced meanwhile, sealed anew, is fetched again.

    A small object comes in one answer, which is always of one version.
    """
    try:
        for _ in range(_TRIES):
            if item.size <= PIECE:
                if len(content := await bucket.get(item.name)) <= PIECE:
                    await asyncio.to_thread(_keep, path, content)
                    return path
                item = await bucket.stat(item.name)
                continue
            await asyncio.to_thread(path.unlink, missing_ok=True)
            await bucket.download(item.name, path, item.size)
            before, item = item, await bucket.stat(item.name)
            if (item.size, item.etag or item.time) == (before.size, before.etag or before.time):
                return path
    except FileNotFoundError:
        return None
    except Failure as failure:
        if failure.code is Code.STORAGE_FULL:  # on the disk of the archive
            raise Failure(failure.code, f"{path.parent.parent}: {failure.detail}") from None
        raise
    raise Failure(Code.CONFLICT, f"{item.name} is replaced again and again while it is read")


def _keep(path: Path, content: bytes) -> None:
    with on_disk():
        path.write_bytes(content)


async def _sealed(stack: Stack, name: str, path: Path) -> bool:
    """Whether an object is sealed; opens it to check it. Raises digest_mismatch for one that is damaged."""
    with path.open("rb") as file:
        number = number_of(file.read(HEAD))
    if number and stack.keys:
        tenant, blob, part = _tenant(name), _BLOB.match(name), _PART.match(name)
        digest = f"sha256:{blob.group(2) if blob else part.group(1) if part else ''}"
        thing = Thing(tenant, "blob", digest) if blob else Thing(tenant, "object", name)
        try:
            key = await stack.keys.find(tenant, number)
        except FailedPrecondition:
            return True  # its keys are destroyed: it cannot be checked
        await asyncio.to_thread(check_file, path, key, thing, digest)
    return number > 0


def _add(archive: Archive, name: str, path: Path, sealed: bool) -> None:
    with path.open("rb") as content:
        archive.add(f"objects/{name}", content, path.stat().st_size, 0o600)
    path.unlink()
    named = _BLOB.match(name) or _PART.match(name)
    if named and not sealed and not archive.entries[-1]["sha256"].startswith(named.group(named.re.groups)):
        raise Failure(Code.DIGEST_MISMATCH, f"{name} has been damaged in its store")


def _records(archive: Archive, folder: Path) -> None:
    """Segments only grow, or are replaced by others of the same length: positions in the snapshot are valid in them."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] == _INDEX or name.suffix == _ASIDE or not path.is_file() or path.is_symlink():
            continue
        with path.open("rb") as content:
            archive.add(f"logs-store/{name}", content, os.fstat(content.fileno()).st_size, 0o600)
