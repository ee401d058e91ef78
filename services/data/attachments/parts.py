"""A file on its way: what came of it is on disk, so that the next try, also of another process, goes on behind that."""

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from services.kit.disk import on_disk

_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})\Z")
_SENT_BACK = re.compile(r"[ -~]{1,256}\Z")  # what a server says may be anything, and what it is sent is a header
_HEAD = 2**20  # bytes by which a file's type is told


class Part:
    """One file. Whole only when its server has said so; `size` and `head` are of what came."""

    def __init__(self, folder: Path, key: str) -> None:
        self._path, self._note = folder / f"{key}.part", folder / f"{key}.mark"
        self._file: BinaryIO | None = None
        self._mark, self.size, self.total = self._known(), 0, -1
        self.head, self._hash = bytearray(), hashlib.sha256()

    def _known(self) -> str:
        """What the server called the file of which a part came; empty where there is none to go on with."""
        with suppress(OSError, orjson.JSONDecodeError):
            mark: Any = orjson.loads(self._note.read_bytes())
            if isinstance(mark, str) and self._path.stat().st_size:
                return mark
        return ""

    @property
    def wanted(self) -> Mapping[str, str]:
        """The headers that ask for what has not come."""
        size = self._path.stat().st_size if self._mark and self._path.exists() else 0
        return {"range": f"bytes={size}-", "if-range": self._mark} if size else {}

    def begin(self, status: int, headers: Mapping[str, str]) -> bool:
        """Opens the file for an answer; False when it does not go on where the file ends. Raises storage_full."""
        with on_disk():
            return self._begin(status, headers)

    def _begin(self, status: int, headers: Mapping[str, str]) -> bool:
        self.close()
        going_on, self.total = status == 206, -1
        if going_on:
            found = _RANGE.match(headers.get("content-range", ""))
            if not self._mark or not found or not self._path.exists() or int(found[1]) != self._path.stat().st_size:
                return False
            self.total = int(found[2])
        self.size, self.head, self._hash = 0, bytearray(), hashlib.sha256()
        self._file = open(self._path, "r+b" if going_on else "w+b")  # noqa: SIM115
        if going_on:
            while piece := self._file.read(_HEAD):
                self._seen(piece)
        else:
            self._mark = _mark(headers)
            self._note.write_bytes(orjson.dumps(self._mark))
        return True

    def write(self, piece: bytes) -> None:
        """Adds what came. Raises storage_full."""
        assert self._file, "an answer has begun"
        with on_disk():
            self._file.write(piece)
        self._seen(piece)

    def _seen(self, piece: bytes) -> None:
        self.size += len(piece)
        self._hash.update(piece)
        self.head += piece[: _HEAD - len(self.head)]

    @property
    def digest(self) -> str:
        """Of what came."""
        return self._hash.hexdigest()

    def keep(self, folder: Path) -> None:
        """The file is whole: it goes to its place, under its digest."""
        with on_disk():
            self.close()
            os.replace(self._path, folder / self.digest)
        self._note.unlink(missing_ok=True)

    def close(self) -> None:
        """What came stays."""
        if self._file:
            self._file.close()
            self._file = None

    def drop(self) -> None:
        """Nobody wants it."""
        self.close()
        self._mark = ""
        for path in (self._path, self._note):
            path.unlink(missing_ok=True)


def _mark(headers: Mapping[str, str]) -> str:
    """By what a server knows a file again, in a form that it can be asked by: a strong ETag, or a time."""
    etag, modified = headers.get("etag", ""), headers.get("last-modified", "")
    mark = etag if etag.startswith('"') else modified
    return mark if _SENT_BACK.match(mark) else ""
