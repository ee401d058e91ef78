"""Files that grow by whole lines, files that are read as a whole, those of a server, or one upload."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from services.data.reading import dialects, extractor, folders, lines, multiline, opening, positions, samples, servers
from services.data.reading.batches import Origins, Page
from services.data.reading.connector import End, PartLag, Sink
from services.data.reading.extractor import Extractor
from services.data.reading.files import Files, LocalFiles
from services.data.reading.folders import Parts, Place
from services.data.reading.formats import Records
from services.data.reading.kinds import Compiled, FileFormat, FilesSource
from services.data.reading.lines import Reader
from services.data.reading.opening import Opened
from services.data.reading.patience import Patience, deadlines
from services.data.reading.positions import FileState, FoundFile, Start
from services.data.reading.samples import Sample, Tried, suggested
from services.data.reading.wholes import Unfinished
from services.kit.errors import Code, Failure, InvalidValue

_PAGE = 32_768  # records that are typed together
_BYTES = 16 * 2**20  # of a sample
_PARTS = 100  # of a source that are named
_STEP = 100  # records between two looks at the clock


class FilesConnector:
    """Files; the cursor says how far each was read, and how it is known again."""

    def __init__(self, source: FilesSource) -> None:
        self._source = source

    @property
    def identity(self) -> str:
        """Files are known one by one, also on a server."""
        return servers.identity(self._source) if self._source.remote else "files"

    def below(self, allowed: Sequence[Path]) -> Place:
        """What the pattern names."""
        if self._source.remote:
            return servers.place_of(self._source)
        found = folders.place(allowed, self._source.pattern)
        folders.check_pattern(found.steps)
        return found

    def look(self, place: Place) -> None:
        """Finds a file, and on a server also reads of it."""
        with self._files(place) as files:
            parts = _parts(place, files)
            if self._source.remote:
                opening.beginning(files, parts[0])

    def _files(
        self, place: Place, patience: Patience | None = None, cursor: dict[str, Any] | None = None
    ) -> contextlib.AbstractContextManager[Files]:
        """Where they are; `patience` is for a server that is away, and nothing behind a cursor is asked for samples."""
        if self._source.remote:
            return servers.files(self._source, place, patience or Patience(), cursor)
        return contextlib.nullcontext(LocalFiles(place))

    @property
    def reaches(self) -> Sequence[tuple[str, int]]:
        """The server that they are on."""
        if not self._source.remote:
            return ()
        server = servers.server_of(self._source)
        return ((server.host, server.port),)

    @property
    def apart(self) -> bool:
        """Servers, and the library that parses Parquet, are trusted with a child's memory only."""
        return self._source.remote or self._source.format in (FileFormat.PARQUET, FileFormat.DOCUMENT)

    def ready(self, compiled: Compiled, fields: Sequence[str]) -> Extractor:
        """What extracts records with these fields."""
        return extractor.of(compiled, fields, self._source.null_values)

    def preview(self, place: Place, records: int) -> Sample:
        """The first records, with types that their values suggest, and how the files seem to be written."""
        with self._files(place) as files:
            parts = _parts(place, files)
            seems = dialects.suggested(self._source, opening.beginning(files, parts[0]))
            try:
                found = [record for record, _ in zip(self._named(files, parts), range(records), strict=False)]
            except Failure as failure:
                hint = f"; the file looks like {dialects.said(seems)}" if seems else ""
                raise Failure(failure.code, f"{failure.detail}{hint}", failure.violations) from None
        missing = {"", *self._source.null_values} if self._source.records is Records.FIELDS else set()
        given = dict[str, list[Any]]()
        for record in found:
            for name, value in record.items():
                given.setdefault(name, []).append(value)
        # One None for all records without the field: documents may have more names than anybody has time for.
        columns = tuple(
            suggested(name, values if len(values) == len(found) else [*values, None], missing)
            for name, values in given.items()
        )
        return Sample(tuple(found), columns, tuple("/".join(part) for part in parts[:_PARTS]), seems)

    def _named(self, files: Files, parts: Sequence[Parts]) -> Iterator[dict[str, Any]]:
        for opened, batch in self._batches(files, parts):
            for record in batch.records:
                match self._source.records:
                    case Records.FIELDS:
                        yield dict(zip(opened.reader.fields, record, strict=True))
                    case Records.LINES:
                        yield {"line": record}
                    case _:
                        yield record

    def _batches(self, files: Files, parts: Sequence[Parts]) -> Iterator[tuple[Opened, Page]]:
        deadline, left = time.monotonic() + samples.SECONDS, _BYTES
        for part in parts:
            # A sample shows the last record, too, although it may go on.
            with opening.opened(self._source, files, part, Start("/".join(part), ended=True)) as opened:
                reader = opened.reader
                begin = reader.offset
                while (batch := reader.read(_STEP, lines.LONGEST)).size:
                    yield opened, batch
                    if time.monotonic() > deadline:
                        raise Failure(Code.LIMIT_EXCEEDED, "reading the sample takes too long")
                    if reader.offset - begin > left:
                        return
                left -= reader.offset - begin

    def tries(self, place: Place, compiled: Compiled, records: int) -> Iterator[Tried]:
        """The first records, and what is no record; a few more than are asked for may come."""
        with self._files(place) as files:
            for opened, batch in self._batches(files, _parts(place, files)):
                ready = self.ready(compiled, opened.reader.fields)
                for _, text, reason in batch.broken:
                    yield Tried(None, ready, (), text, reason)
                for record in batch.records:
                    yield Tried(record, ready, opened.reader.fields)

    def lag(self, place: Place, cursor: dict[str, Any]) -> Sequence[PartLag] | None:
        """The files that are new or were written since, and their bytes that were not read."""
        with self._files(place, None, cursor) as files:
            _, found, todo = self._todo(files, cursor)
        left = [(file, start, positions.unread(file, start.state)) for file, start in zip(found, todo, strict=True)]
        return [PartLag(file.path, start.offset, file.size, size) for file, start, size in left if size is not None]

    def _todo(self, files: Files, cursor: dict[str, Any]) -> tuple[list[FileState], list[FoundFile], Sequence[Start]]:
        """What was read of which files, those that are there, and where each is to be read from."""
        before = [FileState(**state) for state in cursor.get("files", [])]
        known = {state.path: state for state in before}
        found = [opening.find(self._source, files, part, known) for part in files.parts()]
        return before, found, positions.starts(found, before)

    def read(self, place: Place, compiled: Compiled, cursor: dict[str, Any], sink: Sink, seconds: float) -> End:
        """What has been added to the files, and files that are new."""
        with self._files(place, Patience(seconds, sink.wait), cursor) as files:
            before, found, todo = self._todo(files, cursor)
            sizes = [max(file.size - start.offset, 0) for file, start in zip(found, todo, strict=True)]
            states, notes, total = [], list[str](), sum(sizes)
            begun, left, until = False, False, deadlines(seconds)[1]
            for file, start, done in zip(found, todo, accumulate(sizes, initial=0), strict=False):
                # A Parquet file that is known again was read to its end.
                if start.state and (self._source.format is FileFormat.PARQUET or file.same(start.state)):
                    states.append(replace(start.state, path=file.path, inode=file.inode, stamp=file.stamp))
                    continue
                if not left and sink.copies and not sink.copies.fits(file.size):
                    notes.append(f"one run has room for no more files: {file.path} and others are for the next one")
                    left = True
                elif not left and begun and time.monotonic() > until:
                    notes.append(f"{file.path} and others are left for the next run, as the time of this one has ended")
                    left = True
                if left:
                    states += [replace(start.state, path=file.path, inode=file.inode)] if start.state else []
                    continue
                state = self._read_file(files, compiled, start, sink, partial(_share, done, total), notes, until)
                states += [state] if state else []
                begun = begun or state != start.state  # a run gets on, however long it takes to see what is new
            kept = [asdict(state) for state in positions.remembered(states, before)]
            return End(files.cursor(kept), notes)

    def _read_file(
        self,
        files: Files,
        compiled: Compiled,
        start: Start,
        sink: Sink,
        share: Callable[[int], float],
        notes: list[str],
        until: float,
    ) -> FileState | None:
        part = tuple(start.path.split("/"))
        with suppress(Unfinished), opening.opened(self._source, files, part, start, sink.copies) as opened:
            reader = opened.reader
            if start.replaced or opened.replaced:
                notes.append(f"{start.path} is another file than before and was read from its start")
            ready, fields = self.ready(compiled, reader.fields), reader.fields
            while (batch := reader.read(_PAGE)).size:
                sink.take(ready, batch.records, Origins(start.path, batch.numbers), fields)
                sink.take_broken(batch.broken, start.path)
                sink.tell(share(reader.offset - start.offset))
                if isinstance(reader, Reader) and time.monotonic() > until:
                    notes.append(f"the rest of {start.path} is left for the next run, as its time has ended")
                    state = opened.state()
                    # Not known as it is now, or it would be taken for one that was read to its end.
                    return replace(state, stamp="") if state else None
            if opened.waiting:
                waits = f"waits until nothing was written for {multiline.wait(self._source)} seconds"
                notes.append(f"the last record of {start.path} {waits}")
            return opened.state()
        notes.append(f"{start.path} is not complete: it is read when it is")
        return replace(start.state, path=start.path) if start.state else None


def _parts(place: Place, files: Files) -> Sequence[Parts]:
    parts = files.parts()
    if not parts:
        raise InvalidValue(f"{'/'.join(place.steps)} matches no file")
    return parts


def _share(done: int, total: int, read: int) -> float:
    return (done + read) / (total or 1)
