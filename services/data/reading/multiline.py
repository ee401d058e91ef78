"""Records of several lines in a text file: where one begins is said by a pattern."""

from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple

from services.data.reading.batches import Batch
from services.data.reading.kinds import FilesSource
from services.data.reading.lines import LONGEST, Reader
from services.kit import patterns
from services.kit.errors import Failure

LINES, LINES_MOST = 1000, 10_000  # of a record
BYTES_MOST = LONGEST
_WAIT = 60  # seconds

NO_START = "the lines start no record"
# Whether hardly anything will be added to a file; it is told whether the last line has no end yet.
Settled = Callable[[bool], bool]


class _Line(NamedTuple):
    """A line: what it says without its end, its bytes, why it is none, and whether it starts a record."""

    text: str
    length: int
    reason: str
    starts: bool


def wait(source: FilesSource) -> int:
    """Seconds without a change after which the last record of a file is taken for whole."""
    return source.record_wait_seconds or _WAIT


def check_start(pattern: str) -> None:
    """Raises pattern_unsupported, with what RE2 says."""
    try:
        patterns.compiled(pattern)
    except Failure as failure:
        raise Failure(failure.code, f"record_start: {failure.detail}") from None


class RecordReader(Reader):
    """A line that starts a record, with those behind it that start none. Numbers are those of first lines.

    The last record of a file goes on with what is added to the file, so it is handed out when that is complete or has
    settled; until then `offset` stays in front of it. What has no start, or goes on beyond the bounds, is refused: in
    pieces that depend on the file only, not on where a run ended.
    """

    def __init__(
        self,
        source: FilesSource,
        file: BinaryIO,
        offset: int = 0,
        number: int = 0,
        complete: Callable[[], bool] = lambda: False,
        settled: Settled = lambda _: False,
    ) -> None:
        super().__init__(file, offset, number, complete, source.encoding)
        self._start = patterns.compiled(source.record_start)
        self._lines_most, self._bytes_most = source.record_lines or LINES, source.record_bytes or BYTES_MOST
        self._settled = settled
        self._ahead: _Line | None = None
        self.waiting = False

    def _next(self, batch: Batch) -> bool:
        if (first := self._ahead or self._read()) is None:
            return False
        found, size, cut = [first], first.length, ""
        while (ahead := self._read()) is not None and not ahead.starts:
            if cut := self._beyond(len(found) + 1, size + ahead.length):
                break
            found.append(ahead)
            size += ahead.length
        self._ahead = ahead
        if ahead is None and not (self._complete() or self._settled(self._open)):
            self.waiting = True
            return False
        self._hand_out(found, cut, batch)
        self.offset += size
        self.number += len(found)
        return True

    def _hand_out(self, found: Sequence[_Line], cut: str, batch: Batch) -> None:
        there = [line.text for line in found]
        while there and not there[-1].strip():
            del there[-1]
        if not there:
            return  # blank lines, and nothing in front of them
        text = "\n".join(there)
        reason = next((line.reason for line in found if line.reason), "") or cut or self._beyond(1, found[0].length)
        if reason or not found[0].starts:
            batch.refuse(self.number + 1, text, reason or NO_START)
        else:
            batch.take(self.number + 1, text)

    def _beyond(self, lines: int, size: int) -> str:
        """The bound that a record breaks, if it does."""
        if lines > self._lines_most:
            return f"the record has more than {self._lines_most} lines"
        return f"the record has more than {self._bytes_most} bytes" if size > self._bytes_most else ""

    def _read(self) -> _Line | None:
        raw, length = self._line()
        if not length:
            return None
        reason = "the line is longer than 1 MiB" if len(raw) < length else ""
        try:
            text = self._lines.text(raw)
        except UnicodeDecodeError:
            text, reason = self._lines.lossy(raw), reason or f"the line is not {self._lines.name}"
        text = text.rstrip("\r\n")
        return _Line(text, length, reason, self._start.match(text) is not None)
