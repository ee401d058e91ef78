"""How data sets say that their versions are divided; for the slice that divides them."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.engine import Connection

from services.data.datasets.domain import DataSet
from services.data.datasets.layouts import Layout
from services.data.datasets.store import Store
from services.kit.auth import Scope


class Laying:
    """The use cases, in transactions of the slice that asks."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now

    async def make(self, scope: Scope, data_set: str) -> DataSet:
        """The data set, made if it is new. Raises failed_precondition for a deleted one, and where raw records land."""
        return await self._store.ensure(scope, data_set, self._now())

    def lay_out(self, connection: Connection, scope: Scope, data_set: str, layout: Layout | None) -> bool:
        """Says how the first version will be divided; False when there is one.

        Raises not_found, failed_precondition for a deleted data set.
        """
        return self._store.lay_out(connection, scope, data_set, layout, self._now())

    def current(self, connection: Connection, scope: Scope, data_set: str) -> DataSet:
        """The data set as the transaction has it, also a deleted one. Raises not_found."""
        return self._store.current(connection, scope, data_set)

    def is_there(self, connection: Connection, scope: Scope, data_set: str) -> bool:
        """Whether there is such a data set, and it is not deleted."""
        return self._store.is_there(connection, scope, data_set, deleted=False)
