"""Files of this machine, written durably."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from services.kit.errors import Code, Failure

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TRIES = 20  # to remove a folder in which others remove or add files


@contextlib.contextmanager
def on_disk() -> Iterator[None]:
    """Around work on files: raises storage_full for a full disk; other errors as they are."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or "No space left" in str(error):  # Delta's engine raises errors without a number
            raise Failure(Code.STORAGE_FULL, "the disk is full") from error
        raise


def append(path: Path, data: bytes) -> None:
    """Appends bytes to a file and syncs it: all of them, or none when that fails. For one writer at a time."""
    # Unbuffered: closing the file would write what is left in a buffer after a failure.
    with open(path, "ab", buffering=0) as file:
        end, rest = file.tell(), memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            os.truncate(file.fileno(), end)
            raise


def sync(path: Path) -> None:
    """Syncs a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes | bytearray) -> None:
    """Writes a file durably and atomically: it is the old one or the new one at any time. One writer at a time."""
    passing = path.with_name(f"{path.name}.new")
    passing.write_bytes(data)
    sync(passing)
    passing.rename(path)
    sync(path.parent)


def clear(folder: Path) -> None:
    """Removes a folder with its content, while others may be removing it as well; a missing one is no error."""
    for _ in range(_TRIES):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise
        if not folder.exists():
            break
    else:
        raise OSError(errno.ENOTEMPTY, "others keep writing to it", str(folder))
    if folder.parent.exists():
        sync(folder.parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds this file's lock, among all processes; a file that does not exist is not locked."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
