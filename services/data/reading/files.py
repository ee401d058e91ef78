"""Port: where the files of a source are. Of this machine: those below a folder."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from services.data.reading import folders
from services.data.reading.folders import Parts, Place


@dataclass(frozen=True)
class Raw:
    """One file, open. `inode` tells it from others, whatever it is called; `stamp` changes when it is written."""

    file: BinaryIO
    inode: str
    size: int
    stamp: str
    # It is written as a whole: its last line needs no end, and its stamp alone tells whether it is as it was.
    complete: bool = False
    # Seconds since it was last written, as it lies there now.
    idle: Callable[[], float] = lambda: 0.0


class Files(Protocol):
    """The files that a pattern names."""

    def parts(self) -> Sequence[Parts]:
        """Their paths, sorted; none where the pattern names none. Raises limit_exceeded when there are too many."""

    def open(self, part: Parts) -> contextlib.AbstractContextManager[Raw]:
        """One of them, read from its start."""

    def cursor(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """Where the next run begins, by how far each of them was read."""


class LocalFiles:
    """Files below a folder, which may grow."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def parts(self) -> Sequence[Parts]:
        return folders.matches(self._place.root, self._place.steps)

    @contextlib.contextmanager
    def open(self, part: Parts) -> Iterator[Raw]:
        with os.fdopen(folders.open_file(self._place.root, part), "rb") as file:
            yield _raw(file)

    def cursor(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        return {"files": states}


def _raw(file: BinaryIO) -> Raw:
    status = os.fstat(file.fileno())
    inode, idle = f"{status.st_dev}:{status.st_ino}", lambda: time.time() - os.fstat(file.fileno()).st_mtime
    return Raw(file, inode, status.st_size, stamp_of(status), idle=idle)


def stamp_of(status: os.stat_result) -> str:
    """What changes when a file is written."""
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
