"""Where events of storage are written."""

from collections.abc import Iterable

from services.data.database import schema
from services.kit.bus import Event
from services.kit.db import Database


class Store:
    """The outbox."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def tell(self, events: Iterable[Event]) -> None:
        """Publishes all of them or none."""
        batch = list(events)
        await self._db.run(lambda connection: schema.outbox.add(connection, batch))
