"""Files of this machine: what is written is on the disk, or it is said why not."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from services.kit.errors import Code, Failure

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OTHERS = 20  # times that others may remove, or add, something meanwhile


@contextlib.contextmanager
def on_disk() -> Iterator[None]:
    """For work on files of this machine. Raises storage_full when the disk is; any other trouble as it is."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or "No space left" in str(error):  # errors of Delta's engine have no number
            raise Failure(Code.STORAGE_FULL, "the disk is full") from error
        raise


def append(path: Path, data: bytes) -> None:
    """Adds bytes to a file, and to the disk: all of them, or none when that fails. One writer at a time."""
    # Without a buffer: what is left in one would be written after all when the file is closed.
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
    """Brings a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear(folder: Path) -> None:
    """Removes a folder with all that is in it, also what others are removing; one that is not there is no error."""
    for _ in range(_OTHERS):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise
        if not folder.exists():
            break
    else:
        raise OSError(errno.ENOTEMPTY, "somebody writes to it all the while", str(folder))
    if folder.parent.exists():
        sync(folder.parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else has this file's lock meanwhile, in no process; without a file there is nothing to lock."""
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
