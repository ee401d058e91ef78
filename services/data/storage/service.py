"""How many bytes each project stores, published every hour of the clock."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from services.data.storage.events import data_stored
from services.kit.auth import Scope
from services.kit.outbox import Publisher

Kept = Callable[[], Awaitable[Mapping[Scope, int]]]


class Storage:
    """Adds up what the stores of the data service have of each project."""

    def __init__(self, publisher: Publisher, stores: Mapping[str, Kept]) -> None:
        """`stores`: give the bytes of each project, by the name under which they are published."""
        self._publisher, self._stores = publisher, stores

    async def measure(self, hour: datetime) -> None:
        """Publishes the sizes of an hour; two processes that do it publish them twice. Raises unavailable."""
        found = {what: await kept() for what, kept in self._stores.items()}
        sizes = [(what, scope, size) for what, kept in found.items() for scope, size in kept.items() if size]
        await self._publisher.tell(data_stored(hour, *each) for each in sizes)
