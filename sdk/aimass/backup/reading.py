"""Reads an archive: every name and digest is checked before the home folder appears."""

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from aimass.backup.writing import FORMAT, MANIFEST, Made, Progress, broken
from aimass.failures import Failure

_CHUNK = 2**20
_LARGEST_MANIFEST = 512 * 2**20
_LONGEST_NAME = 1024


def read(file: Path, home: Path, progress: Progress | None = None) -> Made:
    """Restores an archive into the folder `home`. Raises Failure, and creates nothing: already_exists if the folder is
    not empty, digest_mismatch or invalid_value for a damaged archive."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise Failure("already_exists", f"{home} is not empty: a restore overwrites nothing")
    if not file.is_file():
        raise Failure("not_found", f"there is no archive {file}")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{home.name}-restore-", dir=home.parent))
    except OSError as error:
        raise broken(error, home) from None
    try:
        made = _read(file, aside, progress)
        if home.exists():
            home.rmdir()
        aside.rename(home)
    except (tarfile.TarError, EOFError) as error:
        raise Failure("invalid_value", f"{file} is not a backup of AI Mass: {error}") from None
    except OSError as error:
        raise broken(error, home) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return made


def _read(file: Path, into: Path, progress: Progress | None) -> Made:
    found: dict[str, tuple[int, str]] = {}
    manifest, whole, done = b"", file.stat().st_size, 0
    with tarfile.open(file, mode="r:") as tar:
        for member in _members(tar):
            if manifest:
                raise Failure("invalid_value", f"{file} has data after its end")
            source = tar.extractfile(member)
            assert source
            if member.name == MANIFEST:
                manifest = source.read(_LARGEST_MANIFEST)
                continue
            found[member.name] = _write(source, into / member.name, member)
            done += member.size
            if progress:
                progress(done, whole)
    _check(manifest, found, into)
    return Made(len(found), done, f"sha256:{hashlib.sha256(manifest).hexdigest()}")


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of an archive. Raises Failure unless they are regular files with plain names, each once."""
    seen: set[str] = set()
    for member in tar:
        parts = PurePosixPath(member.name).parts
        plain = (
            parts
            and not member.name.startswith("/")
            and ".." not in parts
            and str(PurePosixPath(*parts)) == member.name
        )
        if (
            not member.isreg()
            or member.issparse()
            or not plain
            or len(member.name) > _LONGEST_NAME
            or "\0" in member.name
            or "\\" in member.name
        ):
            raise Failure("invalid_value", f"the archive has the member {member.name!r}, which no backup writes")
        if member.name in seen:
            raise Failure("invalid_value", f"the archive has {member.name} twice")
        seen.add(member.name)
        yield member


def _write(source: Any, path: Path, member: tarfile.TarInfo) -> tuple[int, str]:
    """Writes a new file that only its owner can read. Returns its size and digest."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest, size = hashlib.sha256(), 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
        while content := source.read(_CHUNK):
            out.write(content)
            digest.update(content)
            size += len(content)
        out.flush()
        os.fsync(out.fileno())
    return size, digest.hexdigest()


def _check(manifest: bytes, found: dict[str, tuple[int, str]], into: Path) -> None:
    entries = _listed(manifest, found, FORMAT)[1]
    for name, mode in entries.items():
        (into / name).chmod(mode & 0o700 | 0o400)


def _listed(manifest: bytes, found: dict[str, tuple[int, str]], form: int | str) -> tuple[Any, dict[str, int]]:
    """The manifest, and the modes of its files. Raises Failure if the archive holds other files than it lists."""
    try:
        listed = orjson.loads(manifest)
        entries = {e["path"]: (e["size"], e["sha256"], int(e["mode"])) for e in listed["files"]}
        if listed["format"] != form:
            raise Failure("unsupported_format", f"the archive has format {listed['format']}; this program reads {form}")
    except (KeyError, TypeError, ValueError):
        raise Failure("invalid_value", "the archive has no manifest: it is truncated, or not a backup") from None
    for name, (size, digest, _) in entries.items():
        if found.get(name) != (size, digest):
            raise Failure("digest_mismatch", f"{name} has changed since the archive was written")
    if unlisted := sorted(set(found) - set(entries)):
        raise Failure("invalid_value", f"the archive has {unlisted[0]}, which its manifest does not list")
    return listed, {name: mode for name, (_, _, mode) in entries.items()}


class Held:
    """An archive that was checked as a whole, to be read file by file."""

    def __init__(self, tar: tarfile.TarFile, form: int | str) -> None:
        """Reads and checks the archive. Raises Failure as `read` does."""
        self._tar, self._files = tar, dict[str, tuple[int, str]]()
        manifest = b""
        for member in _members(tar):
            if manifest:
                raise Failure("invalid_value", "the archive has data after its end")
            source = tar.extractfile(member)
            assert source
            if member.name == MANIFEST:
                manifest = source.read(_LARGEST_MANIFEST)
            else:
                digest = hashlib.sha256()
                while piece := source.read(_CHUNK):
                    digest.update(piece)
                self._files[member.name] = member.size, digest.hexdigest()
        self.manifest: dict[str, Any] = _listed(manifest, self._files, form)[0]
        total = sum(size for size, _ in self._files.values())
        self.made = Made(len(self._files), total, f"sha256:{hashlib.sha256(manifest).hexdigest()}")

    def below(self, folder: str) -> list[str]:
        """The names below `folder/`, in the order of the archive."""
        return [name for name in self._files if name.startswith(f"{folder}/")]

    def size(self, name: str) -> int:
        return self._files[name][0]

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, checked again: the archive may have changed since."""
        source, digest = self._tar.extractfile(name), hashlib.sha256()
        assert source
        while piece := source.read(_CHUNK):
            digest.update(piece)
            yield piece
        if digest.hexdigest() != self._files[name][1]:
            raise Failure("digest_mismatch", f"{name} changed while it was read")


@contextmanager
def held(file: Path, form: int | str) -> Iterator[Held]:
    """An archive, to be read in place. Raises Failure for a damaged one."""
    if not file.is_file():
        raise Failure("not_found", f"there is no archive {file}")
    try:
        with ExitStack() as opened:
            try:
                found = Held(opened.enter_context(tarfile.open(file, mode="r:")), form)
            except OSError as error:
                raise broken(error, file) from None
            yield found
    except (tarfile.TarError, EOFError) as error:
        raise Failure("invalid_value", f"{file} is not a backup of AI Mass: {error}") from None
