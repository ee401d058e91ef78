"""Where cursors are kept: of rules, of rule sets, and of rules on branches of their data sets.

A branch gets the cursors of the rules that have written its data set when it is made; a merge brings those that were
moved on the branch.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, Column, ColumnElement, String, Table, delete, insert, select, update
from sqlalchemy.engine import Connection

from services.data.database import schema
from services.data.extractions.domain import Extraction
from services.kit.auth import Scope
from services.kit.db import UtcDateTime, scoped, within

cursor = scoped(
    "extraction_cursor",
    schema.metadata,
    Column("rule", String(63), primary_key=True),
    Column("place", String(71), nullable=False),
    Column("cursor", JSON, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    # Where the last run began that read something.
    Column("began", JSON(none_as_null=True)),
)
_set_cursor = scoped(
    "rule_set_cursor",
    schema.metadata,
    Column("rule_set", String(63), primary_key=True),
    Column("place", String(71), nullable=False),
    Column("cursor", JSON, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
)
_branch_cursor = scoped(
    "branch_cursor",
    schema.metadata,
    Column("branch", String(63), primary_key=True),
    Column("rule", String(63), primary_key=True),
    Column("place", String(71), nullable=False),
    Column("cursor", JSON, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    # A run on the branch has stored it.
    Column("moved", Boolean, nullable=False),
)
_KEPT = ("rule", "place", "cursor", "update_time")


def found(
    connection: Connection, scope: Scope, rule: str, rule_set: str, branch: str, place: str
) -> tuple[dict[str, Any], datetime] | None:
    """Where the last run ended, and when; None for the first one, and when the source was another place then."""
    table, one, _ = _of(scope, rule, rule_set, branch)
    row = connection.execute(select(table).where(one & (table.c.place == place))).first()
    return (dict(row.cursor), row.update_time) if row else None


def store(connection: Connection, scope: Scope, after: Extraction, place: str, kept: dict[str, Any]) -> None:
    """Where the next run begins."""
    table, one, key = _of(scope, after.rule, after.rule_set, after.branch)
    values = {**key, "place": place, "cursor": kept, "update_time": after.end_time}
    if table is cursor:
        before = connection.execute(select(table).where(one & (table.c.place == place))).first()
        values["began"] = before and (before.cursor if after.records_read else before.began)
    connection.execute(delete(table).where(one))
    connection.execute(insert(table).values(**scope._asdict(), **values))


def began(connection: Connection, scope: Scope, rule: str, place: str) -> dict[str, Any] | None:
    """Where the last run of a rule began that read something; None for the start of its source."""
    here = within(cursor, scope) & (cursor.c.rule == rule) & (cursor.c.place == place)
    found: dict[str, Any] | None = connection.execute(select(cursor.c.began).where(here)).scalar()
    return found


def branched(connection: Connection, scope: Scope, branch: str, rules: list[str]) -> None:
    """Gives a branch the cursors that these rules have now, and takes away those that it has."""
    connection.execute(delete(_branch_cursor).where(_on(scope, branch)))
    here = within(cursor, scope) & cursor.c.rule.in_(rules)
    for row in connection.execute(select(cursor).where(here)).all():
        kept = {name: getattr(row, name) for name in _KEPT}
        connection.execute(insert(_branch_cursor).values(**scope._asdict(), branch=branch, moved=False, **kept))


def moved(connection: Connection, scope: Scope, branch: str) -> list[str]:
    """The rules whose cursors were moved on a branch."""
    query = select(_branch_cursor.c.rule).where(_on(scope, branch) & _branch_cursor.c.moved)
    return list(connection.execute(query).scalars())


def bring(connection: Connection, scope: Scope, branch: str) -> None:
    """Gives these rules the cursors that they have on the branch."""
    for row in connection.execute(select(_branch_cursor).where(_on(scope, branch) & _branch_cursor.c.moved)).all():
        kept = {name: getattr(row, name) for name in _KEPT}
        here = within(cursor, scope) & (cursor.c.rule == row.rule)
        if not connection.execute(update(cursor).where(here).values(kept)).rowcount:
            connection.execute(insert(cursor).values(**scope._asdict(), **kept))


def _on(scope: Scope, branch: str) -> ColumnElement[bool]:
    return within(_branch_cursor, scope) & (_branch_cursor.c.branch == branch)


def _of(scope: Scope, rule: str, rule_set: str, branch: str) -> tuple[Table, ColumnElement[bool], dict[str, Any]]:
    """Where a cursor is kept: the table, the condition, and the key."""
    if branch:
        key = {"branch": branch, "rule": rule, "moved": True}
        return _branch_cursor, _on(scope, branch) & (_branch_cursor.c.rule == rule), key
    if rule_set:
        return _set_cursor, within(_set_cursor, scope) & (_set_cursor.c.rule_set == rule_set), {"rule_set": rule_set}
    return cursor, within(cursor, scope) & (cursor.c.rule == rule), {"rule": rule}
