"""The outbox of traffic: the table of routes itself is in memory only."""

from collections.abc import Sequence

from services.kit.bus import Event
from services.kit.db import Database
from services.kit.outbox import Outbox


class TrafficStore:
    """The outbox."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._db, self._outbox = database, outbox

    async def tell(self, events: Sequence[Event]) -> None:
        """Returns when the events are sure to be published."""
        await self._db.write(lambda connection: self._outbox.add(connection, events))
