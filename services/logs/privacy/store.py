"""The gateway's privacy filters, stored so that the log centre has them when it starts without the gateway."""

from sqlalchemy import Column, Integer, LargeBinary, String, insert, select, update
from sqlalchemy.engine import Connection

from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.db import Database, scoped, within
from services.logs.database import schema

_filter = scoped(
    "privacy_filter",
    schema.metadata,
    Column("privacy_filter", String(63), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
StoredFilter = tuple[str, str, int, bytes]  # tenant, name, generation, the filter as it is on the wire


class PrivacyStore:
    """The only SQL on privacy filters."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def everything(self) -> list[StoredFilter]:
        """All filters of all tenants, also deleted ones."""
        query = select(_filter.c.tenant, _filter.c.privacy_filter, _filter.c.generation, _filter.c.content)

        def work(connection: Connection) -> list[StoredFilter]:
            return [(tenant, name, at, bytes(content)) for tenant, name, at, content in connection.execute(query)]

        with tenancy.everybody():
            return await self._db.read(work)

    async def keep(self, filters: list[StoredFilter]) -> None:
        """Stores filters that are newer than the stored ones."""

        def work(connection: Connection) -> None:
            for tenant, name, generation, content in filters:
                here = within(_filter, Scope(tenant)) & (_filter.c.privacy_filter == name)
                known = connection.execute(select(_filter.c.generation).where(here)).scalar()
                if known is None:
                    row = Scope(tenant)._asdict() | {"privacy_filter": name}
                    connection.execute(insert(_filter).values(generation=generation, content=content, **row))
                elif known < generation:
                    connection.execute(update(_filter).where(here).values(generation=generation, content=content))

        with tenancy.everybody():
            await self._db.run(work)
