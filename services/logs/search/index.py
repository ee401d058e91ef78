"""The search index, kept by Tantivy in a folder.

It is derived from the segments and can be rebuilt from them, so losing it loses nothing. It stores the position up to
which it has their records; those after it are added again after a crash, and each is in it once.
"""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from services.kit.auth import Scope
from services.kit.disk import clear, replace, sync
from services.logs.domain import Record
from services.logs.encoding import loads
from services.logs.search.buckets import Bucket, counted, total
from services.logs.search.documents import document, document_of_table, identity, key_of, made_once, schema, term
from services.logs.search.domain import Query
from services.logs.search.tabled import Hit, Over, Tabled, never
from services.logs.search.translation import Translation
from services.logs.tables import Kept, Table, size

_VERSION = "v4"  # of the schema: a new version is a new folder, which is filled from the segments
_HEAP = 15_000_000  # bytes, the writer's minimum
_PAGE_BYTES = 3 * 2**20


@dataclass(frozen=True)
class Window:
    """Records from `since` to before `until`, in nanoseconds, with keys below `before`."""

    since: int | None = None
    until: int | None = None
    before: int | None = None


@dataclass(frozen=True)
class Found:
    """A record and its key: the larger, the newer."""

    key: int
    record: Record


class Index:
    """An index in a folder. One thread writes, others may search meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._position = folder / _VERSION, folder / f"{_VERSION}.position"
        self._dropped = folder / f"{_VERSION}.dropped"  # marks that files still have bytes of dropped tenants
        self._index: Any = None
        self._writer: Any = None
        self._searcher: Any = None
        self._translation: Any = None
        self._tabled: Any = None
        # All records with smaller numbers are in it, once; None: unknown.
        self._next: int | None = None

    def open(self) -> tuple[int, int]:
        """Opens or creates the index; returns its position. One that cannot be read is replaced by an empty one."""
        try:
            position = [int(part) for part in orjson.loads(self._position.read_bytes())]
        except (OSError, ValueError, TypeError):
            position = [0, 0]  # records that are added again are found once all the same
        try:
            self._open()
        except (OSError, ValueError):
            shutil.rmtree(self._folder, ignore_errors=True)
            position = [0, 0]
            self._open()
        self._translation, self._next = Translation(self._index.schema), None
        self._tabled = Tabled(self._index.schema)
        self._clear()
        return position[0], position[1]

    def _open(self) -> None:
        import tantivy

        self._folder.mkdir(parents=True, exist_ok=True)
        self._index = tantivy.Index(schema(), path=str(self._folder))
        self._searcher = self._index.searcher()
        # Tantivy opens an index without its file of positions, and only fails when it is searched: a process that was
        # killed while it removed an index may have left the other files.
        self._searcher.search(Translation(self._index.schema).of_tenant("-"), limit=1)

    def _clear(self) -> None:
        """Removes indexes of other schemas."""
        for old in self._folder.parent.glob("v[0-9]*"):
            if old.name.partition(".")[0] == _VERSION:
                continue
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink(missing_ok=True)

    def add(self, records: Sequence[tuple[int, Kept]]) -> None:
        """Adds records and tables with their numbers; they are found from the next commit on."""
        if self._writer is None:
            self._writer = self._index.writer(_HEAP, 1)
        if records and (self._next is None or records[0][0] < self._next):
            self._writer.delete_documents_by_query(self._translation.since(records[0][0]))
        for sequence, record in records:
            if isinstance(record, Table):
                self._writer.add_document(document_of_table(sequence, record))
            else:
                if not made_once(record):
                    self._writer.delete_documents_by_term("terms", term("record", identity(record)))
                self._writer.add_document(document(sequence, record))
            self._next = sequence + size(record)

    def commit(self, position: tuple[int, int]) -> None:
        """Makes what was added durable and visible, and stores the position that it goes up to."""
        if self._writer is not None:
            self._writer.commit()
        replace(self._position, orjson.dumps(list(position)))
        self._index.reload()
        self._searcher = self._index.searcher()

    def drop(self, tenants: Collection[str]) -> bool:
        """Deletes tenants, so that they are not found any more; returns whether files may still have bytes of them."""
        dropped, queries = self._dropped, [self._translation.of_tenant(tenant) for tenant in tenants]
        self._writer = self._writer or self._index.writer(_HEAP, 1)
        self._commit()  # else the search would miss what was added since the last commit
        if any(self._searcher.search(query, limit=1, count=True).count for query in queries):
            dropped.touch()
            sync(dropped.parent)
        for query in queries:
            self._writer.delete_documents_by_query(query)
        self._commit()
        return dropped.exists()

    def _commit(self) -> None:
        self._writer.commit()
        self._index.reload()
        self._searcher = self._index.searcher()

    def successor(self) -> "Index":
        """A new, empty index that can replace this one."""
        shutil.rmtree(folder := self._folder.parent / "anew", ignore_errors=True)
        return Index(folder)

    def replace(self, new: "Index") -> tuple[int, int]:
        """Replaces this index by its successor; returns that one's position. A kill meanwhile leaves an empty index."""
        for index in (self, new):
            index.wait_merges()  # else Tantivy would write merged files into the other's folder
        new.close()
        self._position.unlink(missing_ok=True)
        clear(self._folder)
        new._folder.rename(self._folder)
        new._position.rename(self._position)
        clear(new._folder.parent)
        self._dropped.unlink(missing_ok=True)
        sync(self._folder.parent)
        return self.open()

    def search(self, scope: Scope, query: Query, window: Window, limit: int, over: Over = never) -> list[Found]:
        """Records of a scope, newest first; fewer than `limit` when they are large, but at least one.

        Raises cancelled when `over` returns true, as do the other queries.
        """
        import tantivy

        bounds, searcher = _bounds(window), self._searcher
        asked = self._translation.within(scope, query, *bounds)
        newest = {"order_by_field": "key", "order": tantivy.Order.Desc}
        hits = [
            Hit(key, partial(_load, searcher, address))
            for key, address in searcher.search(asked, limit=limit, count=False, **newest).hits
        ]
        found, taken = list[Found](), 0
        for hit in self._tabled.newest(searcher, scope, query, bounds, hits, limit, over):
            weight, record = hit.load()
            taken += weight
            if found and taken > _PAGE_BYTES:
                break
            found.append(Found(hit.key, record))
        return found

    def total(self, scope: Scope, query: Query, window: Window, over: Over = never) -> int:
        """How many records a query matches."""
        searcher = self._searcher
        parts = self._tabled.partly(searcher, scope, query, _bounds(window), over)
        return total(searcher, self._whole(scope, query, window)) + sum(len(part.durations) for part in parts)

    def _whole(self, scope: Scope, query: Query, window: Window) -> Any:
        """A query for single records that match, and for tables all of whose records do."""
        bounds = _bounds(window)
        alone = self._translation.within(scope, query, *bounds)
        return self._translation.either(alone, self._tabled.every(scope, query, bounds))

    def count(
        self, scope: Scope, query: Query, window: Window, step: int, split: str, most: int, over: Over = never
    ) -> list[Bucket]:
        """Buckets by time, then value. Raises query_too_costly for more than `most`."""
        searcher = self._searcher
        parts = self._tabled.partly(searcher, scope, query, _bounds(window), over)
        return counted(searcher, self._whole(scope, query, window), step, split, parts, most)

    def rollback(self) -> None:
        """Rolls back what was not committed, and releases the writer's lock."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.rollback()

    def wait_merges(self) -> None:
        """Waits for merges to end, and releases the writer's lock."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.wait_merging_threads()

    def close(self) -> None:
        """Closes the index."""
        self.rollback()
        self._searcher = self._index = None


def _bounds(window: Window) -> tuple[int | None, int | None]:
    """The lowest key, and the key to stop before."""
    low = None if window.since is None else key_of(window.since)
    highs = [key_of(window.until)] if window.until is not None else []
    highs += [window.before] if window.before is not None else []
    return low, min(highs, default=None)


def _load(searcher: Any, address: Any) -> tuple[int, Record]:
    source = searcher.doc(address).get_first("source")
    record = loads(source)
    assert isinstance(record, Record)
    return len(source), record
