"""Where the usage of long work is kept. Everything here runs in the caller's transaction."""

from sqlalchemy import JSON, BigInteger, Column, ColumnElement, String, insert, select, update
from sqlalchemy.engine import Connection

from services.data.database import schema
from services.data.metering.domain import CpuUsage
from services.kit.auth import Scope
from services.kit.db import scoped, within

_usage = scoped(
    "effort",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("principal", String(210), nullable=False),
    Column("most_milliseconds", BigInteger, nullable=False),
    Column("children", JSON, nullable=False),
)


def add(connection: Connection, scope: Scope, usage: CpuUsage) -> None:
    """Stores what work may use."""
    connection.execute(insert(_usage).values(scope._asdict() | vars(usage)))


def find(connection: Connection, scope: Scope, operation: str) -> CpuUsage | None:
    """None for an operation that nobody ordered through the contract, or that the release before began."""
    row = connection.execute(select(_usage).where(_at(scope, operation))).first()
    return CpuUsage(**{name: getattr(row, name) for name in CpuUsage.__dataclass_fields__}) if row else None


def keep(connection: Connection, scope: Scope, operation: str, child: str, milliseconds: int) -> None:
    """Stores what a child has used; of two numbers, which may come in any order, the larger."""
    if (found := find(connection, scope, operation)) is not None:
        most = max(milliseconds, found.children.get(child, 0))
        changed = update(_usage).where(_at(scope, operation)).values(children={**found.children, child: most})
        connection.execute(changed)


def _at(scope: Scope, operation: str) -> ColumnElement[bool]:
    return within(_usage, scope) & (_usage.c.operation == operation)
