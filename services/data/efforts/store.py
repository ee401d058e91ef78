"""Where it is kept what long work uses. Everything here runs in the transaction of what it belongs to."""

from sqlalchemy import JSON, BigInteger, Column, ColumnElement, String, insert, select, update
from sqlalchemy.engine import Connection

from services.data.database import schema
from services.data.efforts.domain import Effort
from services.kit.auth import Scope
from services.kit.db import scoped, within

_effort = scoped(
    "effort",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("principal", String(210), nullable=False),
    Column("most_milliseconds", BigInteger, nullable=False),
    Column("children", JSON, nullable=False),
)


def add(connection: Connection, scope: Scope, effort: Effort) -> None:
    """Keeps what work may use."""
    connection.execute(insert(_effort).values(scope._asdict() | vars(effort)))


def find(connection: Connection, scope: Scope, operation: str) -> Effort | None:
    """None for an operation that nobody ordered through the contract, or that the release before began."""
    row = connection.execute(select(_effort).where(_at(scope, operation))).first()
    return Effort(**{name: getattr(row, name) for name in Effort.__dataclass_fields__}) if row else None


def keep(connection: Connection, scope: Scope, operation: str, child: str, milliseconds: int) -> None:
    """Keeps what a child has used; what was said later may have been written earlier."""
    if (found := find(connection, scope, operation)) is not None:
        most = max(milliseconds, found.children.get(child, 0))
        changed = update(_effort).where(_at(scope, operation)).values(children={**found.children, child: most})
        connection.execute(changed)


def _at(scope: Scope, operation: str) -> ColumnElement[bool]:
    return within(_effort, scope) & (_effort.c.operation == operation)
