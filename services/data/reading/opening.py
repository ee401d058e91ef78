"""The files of a source, opened: what reads their records, and by what they are known again."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from services.data.reading import lines, multiline, unpacking
from services.data.reading.described import Copies, Described
from services.data.reading.files import Files, Raw
from services.data.reading.folders import Parts
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

    def __init__(self, source: FilesSource, raw: Raw, path: str, start: Start, copies: Copies | None = None) -> None:
        """`copies` takes the bytes of documents."""
        self._source, self._raw, self._path, self._copies = source, raw, path, copies
        self._file, content = _content(source, raw.file, path)
        self._packed = content is not None
        self._ended = start.ended
        whole = lambda: content.whole if content else raw.complete  # noqa: E731
        self.reader = self._reader(start, whole)
        self.replaced = isinstance(self.reader, Documents) and self.reader.replaced

    def _reader(self, start: Start, whole: Callable[[], bool]) -> Reader | Rows | Documents | Described:
        if self._source.format is not FileFormat.DOCUMENT:
            return reader(self._source, self._file, start, whole, self._settled)
        before = start.state.digest if start.state else ""
        upload = self._source.upload_digest
        return Described(self._raw, upload or self._path, before, not upload, self._copies)

    def _settled(self, open_: bool) -> bool:
        if self._ended or self._packed or open_:
            return self._ended
        return self._raw.idle() >= multiline.wait(self._source)

    @property
    def waiting(self) -> bool:
        """Whether a last record is there that may go on."""
        return isinstance(self.reader, RecordReader) and self.reader.waiting

    def state(self) -> FileState | None:
        """How far it was read; None where nothing was there to read."""
        reader, raw = self.reader, self._raw
        if not reader.offset:
            return None
        stamp = raw.stamp if self._packed or raw.complete or not isinstance(reader, Reader) else ""
        size, digest = min(reader.offset, HEAD), ""
        if not isinstance(reader, Reader):
            size, digest = HEAD if isinstance(reader, Rows) else 0, reader.digest
        head = _head(self._source, self._file, size)
        return FileState(self._path, raw.inode, reader.offset, reader.number, head, size, stamp, digest)


@contextlib.contextmanager
def opened(
    source: FilesSource, files: Files, part: Parts, start: Start | None = None, copies: Copies | None = None
) -> Iterator[Opened]:
    """A file of a source. Raises invalid_value; failed_precondition, with its name, for what it cannot be."""
    path = "/".join(part)
    with files.open(part) as raw:
        try:
            yield Opened(source, raw, path, start or Start(path), copies)
        except Failure as failure:
            if failure.code in (Code.FAILED_PRECONDITION, Code.LIMIT_EXCEEDED) and path not in failure.detail:
                failure.detail = f"{path}: {failure.detail}"
            raise


def find(source: FilesSource, files: Files, part: Parts, before: Mapping[str, FileState]) -> FoundFile:
    """A file as it lies there. One that is as it was `before`, by its path, is not read for that."""
    path = "/".join(part)

    @functools.cache  # a new file is held against each of those that are gone, and may be on a server
    def head(size: int) -> str:
        with files.open(part) as raw:
            return _head(source, _content(source, raw.file, path)[0], size)

    with files.open(part) as raw:
        known = before.get(path)
        asked = bool(before) and not (known and raw.complete and known.stamp == raw.stamp)
        packed = asked and _compression(source, raw.file) is not Compression.NONE
        return FoundFile(path, raw.inode, raw.size, head, raw.stamp, packed)


def beginning(files: Files, part: Parts) -> bytes:
    """The first bytes of the content of a file, also of a damaged one."""
    with files.open(part) as raw:
        kind = unpacking.compression(raw.file, Compression.DETECTED)
        with contextlib.suppress(Failure):
            return unpacking.unpacked(raw.file, kind, "/".join(part))[0].read(_BEGINNING)
    return b""


def _compression(source: FilesSource, raw: BinaryIO) -> Compression:
    if source.format in (FileFormat.PARQUET, FileFormat.DOCUMENT):
        return Compression.NONE  # compressed inside
    return unpacking.compression(raw, source.compression)


def _content(source: FilesSource, raw: BinaryIO, path: str) -> tuple[BinaryIO, unpacking.Content | None]:
    return unpacking.unpacked(raw, _compression(source, raw), path)


def _head(source: FilesSource, file: BinaryIO, size: int) -> str:
    """The digest of the first bytes. Of Parquet also the last, which say what is in it; documents tell by records."""
    if source.format in (FileFormat.JSON, FileFormat.DOCUMENT):
        return ""
    file.seek(0)
    digest = hashlib.sha256(file.read(size))
    if source.format is FileFormat.PARQUET:
        file.seek(max(file.seek(0, 2) - size, 0))
        digest.update(file.read(size))
    return digest.hexdigest()
