"""The files of records: append-only segments, synced before an event counts as consumed.

A segment, `<number of its first record>.seg`, is a series of frames. A frame has the records of one event of the bus:
header, CRC-32, block. It is written whole or not at all, and has a hash of the event's id, by which an event that is
delivered again is known.
"""

import hashlib
import logging
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from services.kit.disk import replace, sync

log = logging.getLogger(__name__)
_MAGIC = b"AML1"
# Magic, number of the first record, hash of the event's id, count of records, length of the block, CRC of all these.
_HEADER = struct.Struct("<4sQQIII")
_CHECKED = _HEADER.size - 4
Make = Callable[[int, int], bytes]  # makes a block from its segment and the number of its first record
_KNOWN = 50_000  # events that are recognised when they are delivered again
_RECALLED = 3  # files whose events are, after a restart


class Position(NamedTuple):
    """A place between frames: a segment, and an offset in bytes. The default is before the first one."""

    segment: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """The records of one event, serialised."""

    at: Position
    after: Position
    sequence: int  # number of its first record
    event: int  # hash of its id
    count: int
    block: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """A range of bytes that are no frame."""

    at: int
    end: int


class Segments:
    """The segments in a folder. Not thread-safe: its owner calls it from one thread, except `rewrite`."""

    def __init__(self, folder: Path, most: int = 32 * 2**20, seconds: float = 3600.0) -> None:
        """A new segment begins when the last one has `most` bytes or is `seconds` old."""
        self._folder, self._most, self._seconds = folder, most, seconds
        self._file: FileIO | None = None
        self._segment = self._end = self._sequence = 0
        self._opened = 0.0
        # Events that are recognised, numbered in their order; how many there were, also when the file was begun.
        self._known: dict[int, int] = {}
        self._written = self._before = 0
        self.damaged = 0

    @property
    def sequence(self) -> int:
        """The number of the next record."""
        return self._sequence

    @property
    def written(self) -> int:
        """The order of the next event that is written, as `order` has it."""
        return self._written

    def order(self, event_id: str) -> int | None:
        """When an event was written: the larger, the later. None for one that is not recognised."""
        return self._known.get(_hash(event_id))

    def recalls(self, order: float) -> bool:
        """Whether all events from this one on would be recognised after a restart, and those of two more `append`s."""
        return order >= self._before and self._written - order < _KNOWN // 2

    def open(self) -> None:
        """Finds the end, cuts off what a crash left half-written, and reads which events are known."""
        self._folder.mkdir(parents=True, exist_ok=True)
        names = self._segments()
        for segment in names[-_RECALLED:]:
            self._segment, self._end, self._before = segment, 0, self._written
            size = self._path(segment).stat().st_size
            for found in self._scan(segment, 0, size):
                if isinstance(found, Frame):
                    self._end, self._sequence = found.after.offset, found.sequence + found.count
                    self._know(found.event)
        if names:
            self._sequence = max(self._sequence, self._segment)
            self._cut(self._path(self._segment))
            self._file = self._append_to(self._segment)

    def _cut(self, path: Path) -> None:
        size = path.stat().st_size
        if size > self._end:
            log.warning("%s: %d bytes of an unfinished write are cut off", path.name, size - self._end)
            self._quarantine(self._segment, self._end, size)
            os.truncate(path, self._end)

    def append(self, batches: Sequence[tuple[str, int, Make]]) -> list[Frame]:
        """Writes batches (event id, count, maker of the block) and syncs once; returns the frames of unknown events.

        Raises OSError when the disk fails; then none of them is written.
        """
        frames: list[Frame] = []
        written, sequence, start = [], self._sequence, self._place()
        now = set[int]()
        for event_id, count, make in batches:
            event = _hash(event_id)
            if event in self._known or event in now:
                continue
            now.add(event)
            block = make(start.segment, sequence)
            header = _HEADER.pack(_MAGIC, sequence, event, count, len(block), 0)[:_CHECKED]
            data = header + zlib.crc32(block, zlib.crc32(header)).to_bytes(4, "little") + block
            after = Position(start.segment, start.offset + len(data))
            frames.append(Frame(start, after, sequence, event, count, block))
            written.append(data)
            start, sequence = after, sequence + count
        if written:
            self._write(b"".join(written))
            self._end, self._sequence = start.offset, sequence
            for frame in frames:
                self._know(frame.event)
        return frames

    def _write(self, data: bytes) -> None:
        assert self._file, "open was not called"
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fdatasync(self._file.fileno())
        except OSError:
            os.truncate(self._path(self._segment), self._end)
            raise

    def _place(self) -> Position:
        """Where the next frame goes; begins a new segment when the last one is large or old enough."""
        old = time.monotonic() - self._opened > self._seconds
        if self._file is None or self._end >= self._most or (old and self._end):
            self._begin()
        return Position(self._segment, self._end)

    def _begin(self) -> None:
        if self._file:
            self._file.close()
        self._segment, self._end, self._before = self._sequence, 0, self._written
        self._file = self._append_to(self._segment)
        sync(self._folder)

    def _append_to(self, segment: int) -> FileIO:
        self._opened = time.monotonic()
        return FileIO(self._path(segment), "ab")

    def _know(self, event: int) -> None:
        self._known[event] = self._written
        self._written += 1
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]

    def read(self, position: Position, most: int = 2**20) -> tuple[list[Frame], Position]:
        """Frames after a position, about `most` bytes, and where they end. Damage is quarantined and skipped."""
        if position > (self._segment, self._end):
            position = Position()  # of files that were removed: followers recognise what they have seen
        frames: list[Frame] = []
        taken = 0
        for segment in [name for name in self._segments() if name >= position.segment]:
            start = position.offset if segment == position.segment else 0
            size = self._end if segment == self._segment else self._path(segment).stat().st_size
            position = Position(segment, start)
            for found in self._scan(segment, start, size):
                if isinstance(found, Damage):
                    self._report(segment, found)
                    position = Position(segment, found.end)
                    continue
                frames.append(found)
                position = found.after
                taken += len(found.block)
                if taken >= most:
                    return frames, position
        return frames, position

    def turn(self) -> Sequence[int]:
        """Begins a new segment; returns the older ones, which are not written to any more."""
        if self._file and self._sequence > self._segment:
            self._begin()
        return [segment for segment in self._segments() if segment < self._segment or not self._file]

    def rewrite(self, segment: int, change: Callable[[bytes], bytes | None]) -> bool:
        """Replaces blocks of an older segment by others of the same length; `change` returns None for those that stay.

        The file is replaced atomically, so it may be read meanwhile. Returns whether anything has changed.
        """
        path = self._path(segment)
        found = [one for one in self._scan(segment, 0, path.stat().st_size) if isinstance(one, Frame)]
        changed = [(one.at.offset, block) for one in found if (block := change(one.block)) is not None]
        if not changed:
            return False
        data = bytearray(path.read_bytes())
        for at, block in changed:
            header = bytes(data[at : at + _CHECKED])
            frame = header + zlib.crc32(block, zlib.crc32(header)).to_bytes(4, "little") + block
            data[at : at + len(frame)] = frame
        replace(path, data)
        return True

    def _report(self, segment: int, damage: Damage) -> None:
        if self._quarantine(segment, damage.at, damage.end):
            self.damaged += 1
            log.error(
                "segment %d is damaged at %d: %d bytes are quarantined", segment, damage.at, damage.end - damage.at
            )

    def _quarantine(self, segment: int, start: int, end: int) -> bool:
        """Copies damaged bytes to `quarantine/`; false if they are there already."""
        folder = self._folder / "quarantine"
        folder.mkdir(exist_ok=True)
        kept = folder / f"{segment:020d}-{start}"
        if kept.exists():
            return False
        with open(self._path(segment), "rb") as file:
            file.seek(start)
            kept.write_bytes(file.read(end - start))
        return True

    def _segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.seg"))

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:020d}.seg"

    def _scan(self, segment: int, start: int, size: int) -> Iterator[Frame | Damage]:
        with open(self._path(segment), "rb") as file:
            while start < size:
                frame = _frame(file, segment, start, size)
                found = frame or Damage(start, _next(file, segment, start + 1, size))
                yield found
                start = found.after.offset if isinstance(found, Frame) else found.end

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            self._file.close()


def _hash(event_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "big")


def _frame(file: BinaryIO, segment: int, start: int, size: int) -> Frame | None:
    """The frame at an offset; None when there is no valid one."""
    file.seek(start)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    magic, sequence, event, count, length, crc = _HEADER.unpack(header)
    end = start + _HEADER.size + length
    if magic != _MAGIC or end > size:
        return None
    block = file.read(length)
    if zlib.crc32(block, zlib.crc32(header[:_CHECKED])) != crc:
        return None
    return Frame(Position(segment, start), Position(segment, end), sequence, event, count, block)


def _next(file: BinaryIO, segment: int, start: int, size: int) -> int:
    """The offset of the next valid frame; the end of the file when there is none."""
    file.seek(start)
    data = file.read(size - start)
    at = data.find(_MAGIC)
    while at >= 0:
        if _frame(file, segment, start + at, size):
            return start + at
        at = data.find(_MAGIC, at + 1)
    return size
