"""Files that are records as a whole, such as images: what each is, not what is in it."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from os import fstat
from typing import Any, BinaryIO, Protocol

from services.data.reading import media
from services.data.reading.batches import Batch
from services.data.reading.files import Raw, stamp_of
from services.data.reading.wholes import Unfinished

_LARGEST = 2**30  # bytes of a file
_HEAD, _PIECE = 2**20, 2**20  # bytes that are looked at, and that are hashed at once
_SHOWN = 4096  # characters of a text


class Copies(Protocol):
    """Takes the bytes of files while they are read."""

    def fits(self, size: int) -> bool:
        """Whether there is room for a file of so many bytes."""

    def begin(self) -> BinaryIO:
        """Where the bytes of the next file go; what the one before has got and did not end is dropped."""

    def end(self, record: dict[str, Any]) -> None:
        """They are whole, and this is the record about them. Raises storage_full."""


class Described:
    """One record about a file; none when its content is as it was. `digest` is of its content."""

    fields: Sequence[str] = ()
    replaced = False

    def __init__(self, raw: Raw, path: str, digest: str, dated: bool, copies: Copies | None = None) -> None:
        """`digest`: of what was there before; `dated`: whether its time of change means anything."""
        self._raw, self._path, self._before, self._dated, self._copies = raw, path, digest, dated, copies
        self.offset, self.number, self.digest = 0, 0, ""

    def read(self, records: int, size: int = 0) -> Batch:
        """The record, then an empty batch. Raises unfinished for a file that is written meanwhile."""
        batch, raw = Batch(), self._raw
        if self.offset or not raw.size:
            return batch
        if raw.size > _LARGEST:
            self.offset, self.digest = raw.size, "too large"
            if self.digest != self._before:
                batch.refuse(1, self._path, "the file is larger than 1 GiB")
            return batch
        head, digest, read = b"", hashlib.sha256(), 0
        raw.file.seek(0)
        copy = self._copies.begin() if self._copies else None
        while piece := raw.file.read(_PIECE):
            head = head or piece[:_HEAD]
            digest.update(piece)
            if copy:
                copy.write(piece)
            read += len(piece)
            if read > raw.size:
                break
        status = fstat(raw.file.fileno())
        if read != raw.size or stamp_of(status) != raw.stamp:
            raise Unfinished("the file changes while it is read")
        self.offset, self.number, self.digest = read, 1, f"sha256:{digest.hexdigest()}"
        if self.digest != self._before:
            changed = datetime.fromtimestamp(status.st_mtime, UTC) if self._dated else None
            record = self._record(head, changed)
            batch.take(1, record)
            if self._copies:
                self._copies.end(record)
        return batch

    def _record(self, head: bytes, changed: datetime | None) -> dict[str, Any]:
        whole = self._raw.size <= len(head)
        kind = media.media_type(head, self._path, whole)
        width, height = media.size_of(head, kind) or (None, None)
        text = media.text(head, whole) if kind.startswith("text/") or kind in media.TEXTS else None
        return {
            "path": self._path,
            "size": self._raw.size,
            "media_type": kind,
            "digest": self.digest,
            "modify_time": changed.isoformat(timespec="milliseconds").replace("+00:00", "Z") if changed else None,
            "width": width,
            "height": height,
            "text": None if text is None else text[:_SHOWN],
        }
