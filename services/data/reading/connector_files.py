"""Files that grow by whole lines, or one upload."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from services.data.reading import extractor, folders, lines, positions, samples
from services.data.reading.connector import End, Sink
from services.data.reading.folders import Parts, Place
from services.data.reading.kinds import Compiled, FileFormat, FilesSource
from services.data.reading.positions import HEAD, FileState, FoundFile, Start
from services.data.reading.samples import Sample, Tried, suggested
from services.kit.errors import Code, Failure, InvalidValue

_PAGE = 32_768  # records that are typed together
_BYTES = 16 * 2**20  # of a sample
_PARTS = 100  # of a source that are named
_STEP = 100  # records between two looks at the clock


class FilesConnector:
    """Files; the cursor says how far each was read, and how it is known again."""

    identity = "files"  # which are known one by one

    def __init__(self, source: FilesSource) -> None:
        self._source = source

    def below(self, allowed: Sequence[Path]) -> Place:
        """What the pattern names."""
        found = folders.place(allowed, self._source.pattern)
        folders.check_pattern(found.steps)
        return found

    def look(self, place: Place) -> None:
        """Finds a file."""
        _parts(place)

    def preview(self, place: Place, records: int) -> Sample:
        """The first records, with types that their values suggest."""
        found = [record for record, _ in zip(self._named(place), range(records), strict=False)]
        missing = {"", *self._source.null_values} if self._source.format is FileFormat.CSV else set()
        names = list(dict.fromkeys(name for record in found for name in record))
        columns = tuple(suggested(name, [record.get(name) for record in found], missing) for name in names)
        parts = tuple("/".join(part) for part in _parts(place)[:_PARTS])
        return Sample(tuple(found), columns, parts)

    def _named(self, place: Place) -> Iterator[dict[str, Any]]:
        for reader, batch in self._batches(place):
            for record in batch.records:
                match self._source.format:
                    case FileFormat.CSV:
                        yield dict(zip(reader.fields, record, strict=True))
                    case FileFormat.JSON_LINES:
                        yield record
                    case FileFormat.TEXT:
                        yield {"line": record}

    def _batches(self, place: Place) -> Iterator[tuple[lines.Reader, lines.Batch]]:
        deadline, left = time.monotonic() + samples.SECONDS, _BYTES
        for part in _parts(place):
            with _opened(place, part) as file:
                reader = lines.reader(self._source, file)
                begin = reader.offset
                while (batch := reader.read(_STEP, lines.LONGEST)).size:
                    yield reader, batch
                    if time.monotonic() > deadline:
                        raise Failure(Code.LIMIT_EXCEEDED, "reading the sample takes too long")
                    if reader.offset - begin > left:
                        return
                left -= reader.offset - begin

    def tries(self, place: Place, compiled: Compiled, records: int) -> Iterator[Tried]:
        """The first records, and what is no record; a few more than are asked for may come."""
        for reader, batch in self._batches(place):
            ready = extractor.of(compiled, reader.fields, self._source.null_values)
            for _, text, reason in batch.broken:
                yield Tried(None, ready, (), text, reason)
            for record in batch.records:
                yield Tried(record, ready, reader.fields)

    def read(self, place: Place, compiled: Compiled, cursor: dict[str, Any], sink: Sink, seconds: float) -> End:
        """What has been added to the files, and files that are new."""
        before = [FileState(**state) for state in cursor.get("files", [])]
        found = [_find(place, part) for part in folders.matches(place.root, place.steps)]
        todo = positions.starts(found, before)
        sizes = [max(file.size - start.offset, 0) for file, start in zip(found, todo, strict=True)]
        states, total = [], sum(sizes)
        for start, done in zip(todo, accumulate(sizes, initial=0), strict=False):
            state = self._read_file(place, compiled, start, sink, partial(_share, done, total))
            states += [state] if state else []
        kept = [asdict(state) for state in positions.remembered(states, before)]
        notes = [f"{s.path} is another file than before and was read from its start" for s in todo if s.replaced]
        return End({"files": kept}, notes)

    def _read_file(
        self, place: Place, compiled: Compiled, start: Start, sink: Sink, share: Callable[[int], float]
    ) -> FileState | None:
        with _opened(place, tuple(start.path.split("/"))) as file:
            reader = lines.reader(self._source, file, start.offset, start.number)
            ready = extractor.of(compiled, reader.fields, self._source.null_values)
            while (batch := reader.read(_PAGE)).size:
                sink.take(ready, batch.records, [f"{start.path}:{number}" for number in batch.numbers], reader.fields)
                sink.take_broken(batch.broken, start.path)
                sink.tell(share(reader.offset - start.offset))
            if not reader.offset:
                return None
            status, size = os.fstat(file.fileno()), min(reader.offset, HEAD)
            inode = f"{status.st_dev}:{status.st_ino}"
            return FileState(start.path, inode, reader.offset, reader.number, _head(file, size), size)


def _parts(place: Place) -> list[Parts]:
    parts = folders.matches(place.root, place.steps)
    if not parts:
        raise InvalidValue(f"{'/'.join(place.steps)} matches no file")
    return parts


def _opened(place: Place, part: Parts) -> BinaryIO:
    return os.fdopen(folders.open_file(place.root, part), "rb")


def _share(done: int, total: int, read: int) -> float:
    return (done + read) / (total or 1)


def _find(place: Place, part: Parts) -> FoundFile:
    def head(size: int) -> str:
        with _opened(place, part) as file:
            return _head(file, size)

    with _opened(place, part) as file:
        status = os.fstat(file.fileno())
    return FoundFile("/".join(part), f"{status.st_dev}:{status.st_ino}", status.st_size, head)


def _head(file: BinaryIO, size: int) -> str:
    file.seek(0)
    return hashlib.sha256(file.read(size)).hexdigest()
