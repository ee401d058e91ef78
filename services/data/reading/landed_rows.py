"""Rows of a table that landed, and what the statement of a rule selects of them.

Statements for SQLite run in SQLite, on a table in memory with the affinities of the first one: values and functions are
the same. Those for PostgreSQL are not run, only read: they must select columns and nothing else.
"""

import contextlib
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from services.data.reading import select, sqlite
from services.data.reading.kinds import Compiled, SqlSource
from services.data.schema import quoted
from services.kit.errors import FailedPrecondition

_SECONDS = 600.0  # that a statement may take for a page


class Rows:
    """Rows of one source."""

    def __init__(self, source: SqlSource, shape: Sequence[tuple[str, str]]) -> None:
        """`shape`: names and declared types of the table's columns."""
        self._source, self._declared = source, dict(shape)

    def select(
        self, compiled: Compiled, fields: Sequence[str], rows: Sequence[Sequence[Any]], origins: Sequence[str]
    ) -> list[tuple[Sequence[Any], str]]:
        """What a rule's statement selects, in the order of the cursor, each with its origin.

        Raises failed_precondition for a statement that cannot be run here.
        """
        if not self._source.remote:
            return self._run(compiled, fields, rows)
        if (names := select.plain(compiled.statement, self._source, len(compiled.columns))) is None:
            raise FailedPrecondition(select.NOT_PLAIN)
        if unknown := next((name for name in names if name not in fields), None):
            raise FailedPrecondition(f"what landed has no column {unknown}")
        places = [list(fields).index(name) for name in names]
        return [([row[place] for place in places], origin) for row, origin in zip(rows, origins, strict=True)]

    def _run(
        self, compiled: Compiled, fields: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> list[tuple[Sequence[Any], str]]:
        table = self._source.table
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            columns = ", ".join(f"{quoted(name)} {_affinity(self._declared.get(name, ''))}" for name in fields)
            connection.execute(f"CREATE TABLE {quoted(table)} ({columns})")
            marks = ", ".join("?" * len(fields))
            connection.executemany(f"INSERT INTO {quoted(table)} VALUES ({marks})", rows)
            connection.commit()
            sqlite.tame(connection, time.monotonic() + _SECONDS)
            sqlite.confine(connection, table)
            found = sqlite.page(connection, self._source, compiled.statement, None, len(rows))
        return [(row, f"{table}:{row[compiled.cursor]}") for row in found]


def _affinity(declared: str) -> str:
    """As section 3.1 of SQLite's datatype document says it."""
    kind = declared.upper()
    if "INT" in kind:
        return "INTEGER"
    if any(hint in kind for hint in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not kind.strip() or "BLOB" in kind:
        return ""
    return "REAL" if any(hint in kind for hint in ("REAL", "FLOA", "DOUB")) else "NUMERIC"
