"""The files of a source, opened: what reads their records, and by what they are known again."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from services.data.reading import folders, lines, multiline, unpacking
from services.data.reading.folders import Parts, Place
from services.data.reading.formats import Compression
from services.data.reading.kinds import FileFormat, FilesSource
from services.data.reading.lines import Reader
from services.data.reading.multiline import RecordReader, Settled
from services.data.reading.positions import HEAD, FileState, FoundFile, Start
from services.data.reading.wholes import Documents, Rows
from services.kit.errors import Code, Failure

_BEGINNING = 64 * 1024  # bytes of a file that are looked at to see how it is written


def reader(
    source: FilesSource,
    file: BinaryIO,
    start: Start | None = None,
    whole: Callable[[], bool] = lambda: False,
    settled: Settled = lambda _: False,
) -> Reader | Rows | Documents:
    """What reads the content of a file from a start on. Raises as `opened`.

    `whole`: nothing will be added to it; `settled`: hardly anything will.
    """
    start = start or Start("")
    match source.format:
        case FileFormat.PARQUET:
            return Rows(file)
        case FileFormat.JSON:
            return Documents(file, start.number, start.state.digest if start.state else "")
        case FileFormat.TEXT if source.record_start:
            complete = whole if not source.upload_digest else lambda: True
            return RecordReader(source, file, start.offset, start.number, complete, settled)
        case _:
            return lines.reader(source, file, start.offset, start.number, whole)


class Opened:
    """One file with what reads it from a start on."""

    def __init__(self, source: FilesSource, raw: BinaryIO, path: str, start: Start) -> None:
        self._source, self._raw, self._path = source, raw, path
        self._file, content = _content(source, raw, path)
        self._packed = content is not None
        self._ended = start.ended
        whole = lambda: content is not None and content.whole  # noqa: E731
        self.reader = reader(source, self._file, start, whole, self._settled)
        self.replaced = isinstance(self.reader, Documents) and self.reader.replaced

    def _settled(self, open_: bool) -> bool:
        if self._ended or self._packed or open_:
            return self._ended
        return time.time() - os.fstat(self._raw.fileno()).st_mtime >= multiline.wait(self._source)

    @property
    def waiting(self) -> bool:
        """Whether a last record is there that may go on."""
        return isinstance(self.reader, RecordReader) and self.reader.waiting

    def state(self) -> FileState | None:
        """How far it was read; None where nothing was there to read."""
        reader = self.reader
        if not reader.offset:
            return None
        stamp = _stamp(self._raw) if self._packed or not isinstance(reader, Reader) else ""
        size, digest = min(reader.offset, HEAD), ""
        if not isinstance(reader, Reader):
            size, digest = HEAD if isinstance(reader, Rows) else 0, reader.digest
        head = _head(self._source, self._file, size)
        return FileState(self._path, _inode(self._raw), reader.offset, reader.number, head, size, stamp, digest)


@contextlib.contextmanager
def opened(source: FilesSource, place: Place, part: Parts, start: Start | None = None) -> Iterator[Opened]:
    """A file of a source. Raises invalid_value; failed_precondition, with its name, for what it cannot be."""
    path = "/".join(part)
    with _raw(place, part) as raw:
        try:
            yield Opened(source, raw, path, start or Start(path))
        except Failure as failure:
            if failure.code in (Code.FAILED_PRECONDITION, Code.LIMIT_EXCEEDED) and path not in failure.detail:
                failure.detail = f"{path}: {failure.detail}"
            raise


def find(source: FilesSource, place: Place, part: Parts) -> FoundFile:
    """A file as it lies there."""
    path = "/".join(part)

    def head(size: int) -> str:
        with _raw(place, part) as raw:
            return _head(source, _content(source, raw, path)[0], size)

    with _raw(place, part) as raw:
        packed = _compression(source, raw) is not Compression.NONE
        return FoundFile(path, _inode(raw), os.fstat(raw.fileno()).st_size, head, _stamp(raw), packed)


def beginning(place: Place, part: Parts) -> bytes:
    """The first bytes of the content of a file, also of a damaged one."""
    with _raw(place, part) as raw:
        kind = unpacking.compression(raw, Compression.DETECTED)
        with contextlib.suppress(Failure):
            return unpacking.unpacked(raw, kind, "/".join(part))[0].read(_BEGINNING)
    return b""


def _raw(place: Place, part: Parts) -> BinaryIO:
    return os.fdopen(folders.open_file(place.root, part), "rb")


def _compression(source: FilesSource, raw: BinaryIO) -> Compression:
    if source.format is FileFormat.PARQUET:
        return Compression.NONE  # compressed inside
    return unpacking.compression(raw, source.compression)


def _content(source: FilesSource, raw: BinaryIO, path: str) -> tuple[BinaryIO, unpacking.Content | None]:
    return unpacking.unpacked(raw, _compression(source, raw), path)


def _inode(raw: BinaryIO) -> str:
    status = os.fstat(raw.fileno())
    return f"{status.st_dev}:{status.st_ino}"


def _stamp(raw: BinaryIO) -> str:
    status = os.fstat(raw.fileno())
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _head(source: FilesSource, file: BinaryIO, size: int) -> str:
    """The digest of the first bytes. Of Parquet also the last, which say what is in it; documents tell by records."""
    if source.format is FileFormat.JSON:
        return ""
    file.seek(0)
    digest = hashlib.sha256(file.read(size))
    if source.format is FileFormat.PARQUET:
        file.seek(max(file.seek(0, 2) - size, 0))
        digest.update(file.read(size))
    return digest.hexdigest()
