"""Finding records: what the log centre asks of an index, kept by Tantivy in a folder.

The index is made of the segments and can be made of them again, so losing it loses nothing. It remembers up to which
position of them it goes; records behind that are added again after a crash, and an id is in it once.
"""

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.logs.domain import Record
from services.logs.encoding import loads
from services.logs.search.documents import document, identity, key_of, made_once, schema
from services.logs.search.domain import Query
from services.logs.search.translation import Translation

_VERSION = "v2"  # of the schema: another one is another folder, filled anew
_HEAP = 15_000_000  # bytes, the least that the writer takes
_PAGE_BYTES = 3 * 2**20


@dataclass(frozen=True)
class Window:
    """Records from `since` until before `until`, in nanoseconds, and older than the key `before`."""

    since: int | None = None
    until: int | None = None
    before: int | None = None


@dataclass(frozen=True)
class Found:
    """A record and its place in the order: the larger the key, the newer."""

    key: int
    record: Record


@dataclass(frozen=True)
class Bucket:
    """How many records a step of time has, and quantiles of their durations."""

    start: int  # seconds
    count: int
    value: str
    p50_ms: float
    p99_ms: float


class Index:
    """An index in a folder. One thread writes, others may read meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._position = folder / _VERSION, folder / f"{_VERSION}.position"
        self._index: Any = None
        self._writer: Any = None
        self._searcher: Any = None
        self._translation: Any = None
        # Records with smaller numbers are in it, once; None: that is not known.
        self._next: int | None = None

    def open(self) -> tuple[int, int]:
        """Opens or makes the index; returns the position it goes up to. What cannot be read is made anew."""
        try:
            position = [int(part) for part in orjson.loads(self._position.read_bytes())]
        except (OSError, ValueError, TypeError):
            position = [0, 0]  # what is added again is found once all the same
        try:
            self._open()
        except (OSError, ValueError):
            shutil.rmtree(self._folder, ignore_errors=True)
            position = [0, 0]
            self._open()
        self._translation, self._next = Translation(self._index.schema), None
        self._clear()
        return position[0], position[1]

    def _open(self) -> None:
        import tantivy

        self._folder.mkdir(parents=True, exist_ok=True)
        self._index = tantivy.Index(schema(), path=str(self._folder))
        self._searcher = self._index.searcher()

    def _clear(self) -> None:
        """Takes away what an index of another schema has left: nobody reads it again, and it is as large."""
        for old in self._folder.parent.glob("v[0-9]*"):
            if old.name.partition(".")[0] == _VERSION:
                continue
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink(missing_ok=True)

    def add(self, records: Sequence[tuple[int, Record]]) -> None:
        """Adds records with their numbers; found from the next commit on."""
        if self._writer is None:
            self._writer = self._index.writer(_HEAP, 1)
        if records and (self._next is None or records[0][0] < self._next):
            self._writer.delete_documents_by_query(self._translation.since(records[0][0]))
        for sequence, record in records:
            if not made_once(record):
                self._writer.delete_documents_by_term("record", identity(record))
            self._writer.add_document(document(sequence, record))
            self._next = sequence + 1

    def commit(self, position: tuple[int, int]) -> None:
        """What was added is found and kept from now on; it goes up to a position."""
        if self._writer is not None:
            self._writer.commit()
        passing = self._position.with_suffix(".new")
        with open(passing, "wb") as file:
            file.write(orjson.dumps(list(position)))
            file.flush()
            os.fsync(file.fileno())
        passing.rename(self._position)
        self._index.reload()
        self._searcher = self._index.searcher()

    def search(self, scope: Scope, query: Query, window: Window, limit: int) -> list[Found]:
        """Records of a scope, newest first; fewer than `limit` when they are large, but one at least."""
        import tantivy

        asked = self._translation.within(scope, query, *_bounds(window))
        searcher = self._searcher
        hits = searcher.search(asked, limit=limit, count=False, order_by_field="key", order=tantivy.Order.Desc).hits
        found, size = list[Found](), 0
        for key, address in hits:
            source = searcher.doc(address).get_first("source")
            size += len(source)
            if found and size > _PAGE_BYTES:
                break
            found.append(Found(key, loads(source)))
        return found

    def total(self, scope: Scope, query: Query, window: Window) -> int:
        """How many records a query matches."""
        asked = self._translation.within(scope, query, *_bounds(window))
        return int(self._searcher.search(asked, limit=1, count=True).count)

    def count(self, scope: Scope, query: Query, window: Window, step: int, split: str, most: int) -> list[Bucket]:
        """Buckets by time, then value. Raises query_too_costly for more than `most`."""
        asked = self._translation.within(scope, query, *_bounds(window))
        quantiles = {"durations": {"percentiles": {"field": "duration_ms", "percents": [50, 99]}}}
        inner = {"values": {"terms": {"field": split, "size": 1000}, "aggs": quantiles}} if split else quantiles
        steps = {"histogram": {"field": "second", "interval": step, "min_doc_count": 1}, "aggs": inner}
        try:
            answer = self._searcher.aggregate(asked, {"steps": steps})
        except ValueError:
            raise _costly(most) from None
        buckets = [one for each in answer["steps"]["buckets"] for one in _buckets(each, split)]
        if len(buckets) > most:
            raise _costly(most)
        return buckets

    def let_go(self) -> None:
        """Gives up what was added and not committed, and the lock; what was found is found as before."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.rollback()

    def close(self) -> None:
        """Lets go of the files."""
        self.let_go()
        self._searcher = self._index = None


def _costly(most: int) -> Failure:
    return Failure(Code.QUERY_TOO_COSTLY, f"the answer has more than {most} buckets; take longer steps or less time")


def _bounds(window: Window) -> tuple[int | None, int | None]:
    """Keys from, and up to before."""
    low = None if window.since is None else key_of(window.since)
    highs = [key_of(window.until)] if window.until is not None else []
    highs += [window.before] if window.before is not None else []
    return low, min(highs, default=None)


def _buckets(step: dict[str, Any], split: str) -> list[Bucket]:
    start = int(step["key"])
    if not split:
        return [_bucket(start, step, "")]
    return sorted((_bucket(start, one, str(one["key"])) for one in step["values"]["buckets"]), key=lambda b: b.value)


def _bucket(start: int, counted: dict[str, Any], value: str) -> Bucket:
    quantiles = counted["durations"]["values"]
    p50, p99 = (0.0 if math.isnan(q := quantiles[name] or 0.0) else q for name in ("50.0", "99.0"))
    return Bucket(start, counted["doc_count"], value, p50, p99)
