"""Reads the newest features of entities by their keys: the way of a prediction that waits for them.

What a view is, and what of it is masked, is remembered for a second, so a read asks one store once.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import orjson

from services.data.datasets.domain import DataSet
from services.data.datasets.masking import hidden_from
from services.data.datasets.service import DataSets
from services.data.feature_views import domain, watching
from services.data.feature_views.covering import Cover, Covers
from services.data.feature_views.domain import MOST_BYTES, Entry, Found, ViewVersion
from services.data.feature_views.keys import key_of
from services.data.feature_views.places import Place
from services.data.feature_views.store import Store
from services.data.feature_views.store.rows import Found as Entries
from services.data.feature_views.wire import microseconds_of
from services.kit.auth import Principal, Scope
from services.kit.errors import Code, FailedPrecondition, Failure

_FRESH = 1.0  # seconds for which a definition and a mask are remembered
_MOST = 10_000  # of them


class Rows(Protocol):
    """Where rows are read."""

    async def read(self, place: Place, stamp: int, keys: Sequence[bytes]) -> Entries:
        """The rows of the keys that have one, as of this stamp or a later one. Raises unavailable."""


class Features(NamedTuple):
    """The answer to a read."""

    version: int
    features: tuple[str, ...]
    rows: list[Found]


class _Head(NamedTuple):
    """A version, and its data set as it is masked."""

    version: ViewVersion
    data_set: DataSet
    read: float


class Reading:
    """The use case."""

    def __init__(
        self, store: Store, rows: Rows, data_sets: DataSets, covers: Covers, now: Callable[[], datetime]
    ) -> None:
        self._store, self._rows, self._data_sets, self._covers = store, rows, data_sets, covers
        self._now = now
        self._heads: dict[tuple[Scope, str, int], _Head] = {}
        self._asked: dict[tuple[Scope, str, int], asyncio.Task[_Head]] = {}

    async def read(
        self, principal: Principal, name: str, version: int, keys: Sequence[Sequence[Any]], features: Sequence[str]
    ) -> Features:
        """The newest features of each key, in their order.

        Raises not_found, unknown_version, invalid_value, unavailable; failed_precondition for a version that was never
        materialised; forbidden for a masked feature; limit_exceeded for an answer that is too large.
        """
        scope = principal.scope
        found, data_set, _ = await self._head(scope, name, version)
        places = domain.chosen(found, features, hidden_from(principal, data_set))
        texts = [orjson.dumps(key_of(found.keys, key, f"/keys/{at}")) for at, key in enumerate(keys)]
        place = Place(scope, name, found.version)
        cover = await self._covers.of(place)
        hashes = [cover.hash(text) for text in texts]
        entries = await self._rows.read(place, found.coverage.stamp, hashes)
        if number := cover.lacks(entry.value for entry in entries.values()):
            cover = await self._covers.of(place, number)
        now, chosen = microseconds_of(self._now()), places if places != tuple(range(len(found.features))) else None
        life = found.definition.seconds_to_live
        rows = [_shown(entries.get(key), cover, chosen, now, life) for key in hashes]
        size = sum(len(entries[key].value) for key in hashes if key in entries)
        if chosen is not None and size > MOST_BYTES:  # of some features, which may be few of what is stored
            size = sum(len(orjson.dumps(row.values)) for row in rows)
        if size > MOST_BYTES:
            raise Failure(Code.LIMIT_EXCEEDED, "the answer would be larger than 3 MiB: ask for fewer keys or features")
        watching.observe(rows)
        return Features(found.version, tuple(found.features[index].name for index in places), rows)

    async def _head(self, scope: Scope, name: str, version: int) -> _Head:
        asked = (scope, name, version)
        known = self._heads.get(asked)
        if known and time.monotonic() - known.read < _FRESH:
            return known
        task = self._asked.get(asked)
        if task is None:  # of those that come at once, one asks
            task = self._asked[asked] = asyncio.ensure_future(self._load(scope, name, version))
            task.add_done_callback(lambda _: self._asked.pop(asked, None))
        return await asyncio.shield(task)

    async def _load(self, scope: Scope, name: str, version: int) -> _Head:
        began = time.monotonic()
        _, found = await self._store.version(scope, name, lambda view: domain.served(view, version))
        if found.coverage.materialise_time is None:
            raise FailedPrecondition(f"version {found.version} of {name} has not been materialised yet")
        data_set = await self._data_sets.get(scope, found.definition.data_set)
        if len(self._heads) >= _MOST:
            self._heads.clear()
        head = self._heads[(scope, name, version)] = _Head(found, data_set, began)
        return head


def _shown(entry: Entry | None, cover: Cover, chosen: Sequence[int] | None, now: int, life: float | None) -> Found:
    found = domain.aged(entry, (), now, life)
    if entry is None or found.state is not domain.State.FOUND:
        return found
    values = orjson.loads(cover.opened(entry.key, entry.event_time, entry.value))
    return Found(found.state, values if chosen is None else [values[at] for at in chosen], found.event_time, found.age)
