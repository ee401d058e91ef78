"""What one does with data sets."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy.engine import Connection

from services.data.datasets.domain import DataSetVersion, Location, NewVersion
from services.kit.auth import Scope
from services.kit.db import Once

Effects = Callable[[Connection, DataSetVersion], None]


class DataSets:
    """The use cases."""

    async def prepare(self, scope: Scope, data_set: str, run: str) -> Path:
        """The folder for the Parquet files of a run, empty; makes the data set if it is new.

        Raises failed_precondition when the data set is deleted.
        """
        raise NotImplementedError

    async def recover(self, scope: Scope, data_set: str, run: str) -> NewVersion | None:
        """After a crash: what the run had handed to `commit`, to be handed to it again; None: the run starts anew."""
        raise NotImplementedError

    async def commit(
        self, scope: Scope, new: NewVersion, effects: Effects | None = None, once: Once | None = None
    ) -> DataSetVersion:
        """Adds a version: Delta log, then row, effects and event in one transaction. The same run again changes nothing.

        Raises failed_precondition for a deleted data set and for appended columns that do not fit.
        """
        raise NotImplementedError

    async def locate(self, scope: Scope, data_set: str, version: int = 0) -> Location:
        """Where a version lies; the newest for 0. Raises not_found, unknown_version."""
        raise NotImplementedError
