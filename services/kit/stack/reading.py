"""Restoring a stack from its archive into empty servers. A restore that failed can be run again."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import Connection

from aimass.backup import Held, Made, held
from services.kit.bucket_s3 import PIECE, Bucket
from services.kit.db_postgresql import MIGRATION
from services.kit.errors import Code, Failure
from services.kit.stack import copy_postgresql as copy
from services.kit.stack.offsets_kafka import Offsets, counted
from services.kit.stack.settings import OLD_KEYS, Stack
from services.kit.stack.writing import FORMAT

# Name of an object and of a file of the log centre: the archive that they come from, until the restore is complete.
_MARK = "restored_from"
_OBJECTS = "objects/"
_AT_ONCE = 6


def read(stack: Stack, file: Path) -> Made:
    """Restores everything. Raises Failure; all that can be checked beforehand is, before anything is written."""
    with held(file, FORMAT) as archive, ExitStack() as opened:
        _check_secrets(stack, archive)
        connections = {name: opened.enter_context(_locked(stack, name)) for name in stack.databases}
        digest = archive.made.digest
        done = {name for name, connection in connections.items() if copy.restored_from(connection) == digest}
        if done != set(stack.databases):
            left = _check_empty(stack, archive, connections, done)
            asyncio.run(_objects(stack, archive))
            _records(stack, archive)
            for name, filling in left.items():
                with _named(name):
                    filling.fill(lambda table, name=name: archive.pieces(f"databases/{name}/{table}"), digest)  # type: ignore[misc]
        for connection in connections.values():
            connection.commit()
        asyncio.run(stack.bucket.delete([_MARK]))
        (stack.records / _MARK).unlink(missing_ok=True)
        for connection in connections.values():
            copy.forget_restore(connection)
        return archive.made


def _check_secrets(stack: Stack, archive: Held) -> None:
    for name, mark in stack.secrets.items():
        if archive.manifest.get("secrets", {}).get(name) != mark:
            raise Failure(Code.FAILED_PRECONDITION, f"{name} is not the one that the archive was made with")
    if set(archive.manifest.get("old_keys", ())) - stack.old - set(stack.secrets.values()):
        text = f"{OLD_KEYS} lacks a key that the archive was made with: something in it may still be sealed with that"
        raise Failure(Code.FAILED_PRECONDITION, text)


@contextmanager
def _locked(stack: Stack, service: str) -> Iterator[Connection]:
    """A transaction that holds the lock of migrations: a service that starts waits for its end."""
    with copy.session(stack.databases[service], "READ COMMITTED", stack.credentials) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION})
        yield connection


@contextmanager
def _named(service: str) -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        raise Failure(failure.code, f"the database of {service} {failure.detail}") from failure


def _check_empty(
    stack: Stack, archive: Held, connections: Mapping[str, Connection], done: set[str]
) -> Mapping[str, copy.Filling]:
    """The databases still to be filled. Raises Failure where something lies that is not from this archive."""
    with Offsets(stack.bus_url, stack.tls_dir).asking() as offsets:
        if ends := counted(offsets.ends()):
            raise Failure(Code.ALREADY_EXISTS, f"the bus is not empty: there are events in {min(ends)[0]}")
    asyncio.run(_check_bucket(stack.bucket, archive.made.digest))
    if stack.records.exists() and any(stack.records.iterdir()) and _mark(stack.records) != archive.made.digest:
        raise Failure(Code.ALREADY_EXISTS, f"{stack.records} is not empty")
    left = {}
    for name in sorted(set(stack.databases) - done):
        with _named(name):
            left[name] = copy.Filling(connections[name], stack.revisions[name], archive.manifest["databases"][name])
            left[name].check()
    return left


async def _check_bucket(bucket: Bucket, digest: str) -> None:
    try:
        if await bucket.get(_MARK) == digest.encode():
            return
    except FileNotFoundError:
        pass
    for folder in ("blobs", "keys", "tables", "uploads"):
        if found := await bucket.list(folder):
            raise Failure(Code.ALREADY_EXISTS, f"the bucket is not empty: there is {found[0].name}")


def _mark(folder: Path) -> str:
    path = folder / _MARK
    return path.read_text() if path.is_file() else ""


async def _objects(stack: Stack, archive: Held) -> None:
    bucket, room = stack.bucket, asyncio.Semaphore(_AT_ONCE)
    await bucket.put(_MARK, archive.made.digest.encode())
    stack.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=stack.home) as scratch:
        try:
            async with asyncio.TaskGroup() as group:
                for number, name in enumerate(archive.below("objects")):
                    await room.acquire()
                    path = Path(scratch) / str(number)
                    await asyncio.to_thread(_extract, archive, name, path)
                    group.create_task(_push(bucket, name.removeprefix(_OBJECTS), path, room))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None


async def _push(bucket: Bucket, name: str, path: Path, room: asyncio.Semaphore) -> None:
    try:
        if await asyncio.to_thread(os.path.getsize, path) <= PIECE:
            await bucket.put(name, await asyncio.to_thread(path.read_bytes))
        else:
            await bucket.upload(name, path)
        await asyncio.to_thread(path.unlink)
    finally:
        room.release()


def _records(stack: Stack, archive: Held) -> None:
    """The folder gets its name when all of it is on the disk."""
    if _mark(stack.records):
        return
    aside = stack.home / ".logs-store-restore"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    for name in archive.below("logs-store"):
        path = aside / name.partition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _extract(archive, name, path, sync=True)
    (aside / _MARK).write_text(archive.made.digest)
    if stack.records.exists():
        stack.records.rmdir()
    aside.rename(stack.records)


def _extract(archive: Held, name: str, path: Path, sync: bool = False) -> None:
    with path.open("xb") as file:
        for piece in archive.pieces(name):
            file.write(piece)
        if sync:
            file.flush()
            os.fsync(file.fileno())
