"""Writes an archive: a tar file of regular files, the last of which is the manifest with their digests."""

import errno
import hashlib
import io
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from aimass import __version__
from aimass.backup.snapshot import taken
from aimass.failures import Failure

MANIFEST = "manifest.json"
FORMAT = 1
_BLOBS, _UPLOADS, _TABLES = "/sha256/", "/uploads/", "tables/"
_KEYS, _GONE = "keys/tenants", "0"  # what says of a tenant that its keys are destroyed
_NOTE = "logs-store/forgotten"
_TENANTS = ("blobs/", f"{_KEYS}/")  # where all of such a tenant goes away
_CHUNK = 2**20
Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Made:
    """What was written or read; the digest is that of the manifest."""

    files: int
    bytes: int
    digest: str


@dataclass
class Archive:
    """An archive that is being written: files, and last their manifest."""

    tar: tarfile.TarFile
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, file: BinaryIO, size: int, mode: int) -> None:
        """Adds the first `size` bytes of a file. Raises Failure if it is shorter."""
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, mode
        counted = _Counted(file, size)
        self.tar.addfile(member, counted)
        if counted.left:
            raise Failure("conflict", f"{name} became shorter while it was read")
        self.entries.append({"path": name, "size": size, "mode": mode, "sha256": counted.digest.hexdigest()})

    def seal(self, content: Mapping[str, Any]) -> Made:
        """Adds the manifest, which has `content`. Nothing can be added after it."""
        files, size = len(self.entries), sum(entry["size"] for entry in self.entries)
        manifest = orjson.dumps({**content, "aimass": __version__, "files": self.entries})
        self.add(MANIFEST, io.BytesIO(manifest), len(manifest), 0o600)
        return Made(files, size, f"sha256:{hashlib.sha256(manifest).hexdigest()}")


class _Counted:
    """A file up to a number of bytes, which are hashed while they are read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.left, self.digest = file, size, hashlib.sha256()

    def read(self, size: int = _CHUNK) -> bytes:
        content = self._file.read(min(size, self.left))
        self.left -= len(content)
        self.digest.update(content)
        # tarfile ignores a short read; the caller checks `left`.
        return content


@contextmanager
def new(file: Path) -> Iterator[Archive]:
    """An archive to fill and seal. The file appears at the end of the block. Raises Failure, and leaves nothing."""
    if file.exists():
        raise Failure("already_exists", f"{file} exists already")
    aside = file.with_name(f"{file.name}.part")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
                yield Archive(tar)
            out.flush()
            os.fsync(out.fileno())
        os.link(aside, file)  # fails if it was created meanwhile
    except FileExistsError:
        raise Failure("already_exists", f"{file} exists already") from None
    except OSError as error:
        named = error.filename is not None and str(error.filename) != str(aside)
        raise broken(error, error.filename if named else file) from None
    finally:
        aside.unlink(missing_ok=True)


def broken(error: OSError, place: object) -> Failure:
    """The failure for a file or folder that could not be read or written."""
    code = "storage_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "unavailable"
    return Failure(code, f"{place}: {(error.strerror or str(error)).lower()}")


def write(home: Path, file: Path, progress: Progress | None = None) -> Made:
    """Writes an archive of a home folder. Services may run meanwhile. Raises Failure, and leaves nothing."""
    with new(file) as archive, tempfile.TemporaryDirectory(prefix=".backup-", dir=file.parent) as scratch:
        _fill(archive, home, Path(scratch), progress)
        return archive.seal({"format": FORMAT})


def _fill(archive: Archive, home: Path, scratch: Path, progress: Progress | None) -> None:
    with taken(home) as snapshot:
        done = 0
        whole = sum(snapshot.files.values()) + sum((home / name).stat().st_size for name in snapshot.databases)
        for name, connection in snapshot.databases.items():
            done += _database(archive, name, connection, (home / name).stat().st_mode & 0o700, scratch)
            if progress:
                progress(done, whole)
        for name, size in _and_keys(home, snapshot.files):
            if file := _opened(home, name):
                with file:
                    there = os.fstat(file.fileno())
                    # Never appended to, but replaced: by the same bytes encrypted, or by a longer list.
                    whole_now = _BLOBS in name or name.startswith(_KEYS) or name == _NOTE
                    archive.add(name, file, there.st_size if whole_now else size, there.st_mode & 0o700)
            done += size
            if progress:
                progress(done, whole)


def _opened(home: Path, name: str) -> BinaryIO | None:
    """A file; None if it may be gone meanwhile. Raises conflict for one that should exist."""
    try:
        return (home / name).open("rb")
    except FileNotFoundError:
        # Uploads are committed, files of no version are removed from tables, and a process that ends removes its key.
        passing = _UPLOADS in name or name.startswith(_TABLES) or (name.startswith("keys/") and name.endswith(".pub"))
        if passing or _shredded(home, name):
            return None
        raise Failure("conflict", f"{name} was deleted while it was read") from None


def _shredded(home: Path, name: str) -> bool:
    """Whether the file is of a tenant that was shredded."""
    if not name.startswith(_TENANTS):
        return False
    tenant = name.removeprefix("keys/").split("/")[1]
    return (home / _KEYS / tenant / _GONE).exists()


def _and_keys(home: Path, files: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The files, then the keys created since: a blob may be encrypted with one of them."""
    yield from files.items()
    for path in sorted((home / _KEYS).glob("*/[0-9]*")):
        if (name := str(path.relative_to(home))) not in files:
            yield name, 0  # keys are copied whole


def _database(archive: Archive, name: str, connection: sqlite3.Connection, mode: int, scratch: Path) -> int:
    """Adds a copy of a database. It is made beside the archive, where there must be room anyway."""
    path = scratch / "copy.part"
    try:
        with closing(sqlite3.connect(path)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        code = "storage_full" if error.sqlite_errorcode == sqlite3.SQLITE_FULL else "unavailable"
        raise Failure(code, f"{name} cannot be copied to {scratch.parent}: {error}") from None
    size = path.stat().st_size
    with path.open("rb") as file:
        archive.add(name, file, size, mode)
    path.unlink()
    return size
