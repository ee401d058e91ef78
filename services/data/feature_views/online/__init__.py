"""Where features are read by key: the database itself, or a faster store in front of it that may lose everything.

The database has the truth. Each of its transactions that changes rows of a version of a view moves that version's
stamp, so a store says how far it is by the stamp that it has; one that is behind is not read.
"""

from collections.abc import Sequence
from typing import Protocol

from services.data.feature_views.domain import Entry
from services.data.feature_views.places import Place, Step
from services.data.feature_views.store.rows import Found, RowStore


class Online(Protocol):
    """A store of the newest rows of entities. Rows are as sealed here as in the database."""

    async def start(self) -> None:
        """Connects, or continues without. Raises ConfigError for what cannot be used."""

    async def read(self, place: Place, stamp: int, keys: Sequence[bytes]) -> Found:
        """The rows of the keys that have one, with all that was committed up to a stamp. Raises unavailable."""

    async def put(self, place: Place, step: Step, entries: Sequence[Entry]) -> None:
        """Takes over rows that were committed with a step. What fails here is made up for later."""

    async def drop(self, place: Place) -> None:
        """Drops the rows of a place. Raises unavailable."""

    async def forget(self, tenants: Sequence[str]) -> None:
        """Drops the rows of tenants. Raises unavailable."""

    async def close(self) -> None:
        """Ends the connections."""


class InDatabase:
    """The rows of the database themselves: nothing is ever behind."""

    def __init__(self, rows: RowStore) -> None:
        self._rows = rows

    async def start(self) -> None:
        """Does nothing."""

    async def read(self, place: Place, stamp: int, keys: Sequence[bytes]) -> Found:
        return await self._rows.read(place, keys)

    async def put(self, place: Place, step: Step, entries: Sequence[Entry]) -> None:
        """Does nothing: the transaction has."""

    async def drop(self, place: Place) -> None:
        """Does nothing: who drops the rows has."""

    async def forget(self, tenants: Sequence[str]) -> None:
        """Does nothing: rows of the database are dropped with all others."""

    async def close(self) -> None:
        """Does nothing: the rows close what they have opened."""
