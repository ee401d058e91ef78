"""The outbox of inference: everything else can be had again from the registry."""

from collections.abc import Sequence

from services.inference.database import schema
from services.kit.bus import Event
from services.kit.db import Database


class Store:
    """The outbox."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def tell(self, events: Sequence[Event]) -> None:
        """Returns when the events are on the disk, to be published."""
        await self._db.write(lambda connection: schema.outbox.add(connection, events))
