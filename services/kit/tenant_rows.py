"""Rows of a tenant, dropped from all tables of a service's database: of one whose keys are destroyed."""

from collections.abc import Collection

from sqlalchemy import MetaData, Table, delete, select, tuple_
from sqlalchemy.engine import Connection

from services.kit import tenancy
from services.kit.db import Database
from services.kit.forgetting import Forget, each

_AT_ONCE = 5_000  # rows of a transaction: others must not wait for long


def dropping(db: Database, metadata: MetaData, kept: Collection[str] = ()) -> Forget:
    """Drops the rows of tenants from all tables that have tenants, but those whose names are `kept`."""
    tables = [table for table in metadata.tables.values() if "tenant" in table.c and table.name not in kept]

    async def forget(tenant: str) -> None:
        with tenancy.everybody():
            for table in tables:
                while await db.run(lambda connection, table=table: _drop(connection, table, tenant)):  # type: ignore[misc]
                    pass

    return each(forget)


def _drop(connection: Connection, table: Table, tenant: str) -> bool:
    """Whether there may be more."""
    key = list(table.primary_key)
    some = select(*key).where(table.c.tenant == tenant).limit(_AT_ONCE)
    if connection.dialect.name == "sqlite":  # else the bytes stay in the file until others take their place
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
    return connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount == _AT_ONCE
