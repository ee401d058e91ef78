"""SQLite files as sources: opened read-only below an allowed folder, with an authorizer that lets one table be read."""

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from services.data.reading import folders
from services.data.reading.folders import Parts
from services.data.reading.kinds import SqlSource
from services.data.schema import ColumnType, quoted
from services.kit.errors import Code, FailedPrecondition, Failure, InvalidValue, Unavailable

FUNCTIONS = frozenset(
    """
    abs ceil ceiling char coalesce date datetime floor hex ifnull iif instr julianday length like lower ltrim max min
    nullif printf replace round rtrim sign strftime substr substring time trim typeof unicode unixepoch upper
    """.split()  # noqa: SIM905 - a list of names is read more easily
)
_SCHEME = "sqlite:///"
# Texts, and names with what makes them those of a table, of a result, or of an order of letters.
_NAMES = re.compile(r"""'(?:[^']|'')*'|(AS |FROM |COLLATE )?"((?:[^"]|"")*)"(\.)?""")
_STEPS = 20_000  # of SQLite's machine between two looks at the clock
_BUSY = 5000  # milliseconds that a statement waits for a lock
_LENGTH = 16 * 2**20  # bytes of a value
_SAMPLE = 16 * 2**20  # bytes of the rows of a preview or a test
_ALLOWED = (sqlite3.SQLITE_SELECT,)


@dataclass(frozen=True)
class Table:
    """A table as its database describes it: columns with the types that their declarations suggest, if they do.

    Columns without a declaration come from `CREATE TABLE ... AS SELECT`, and hold anything.
    """

    columns: tuple[tuple[str, ColumnType | None], ...]
    # The column that orders rows of equal cursors; empty where the cursor is unique, as it is in SQLite.
    key: str = ""
    # As a SQLite file declares them.
    declared: tuple[tuple[str, str], ...] = ()


def path_of(url: str) -> str:
    """The file that a URL names. Raises invalid_value for another database, and for credentials."""
    scheme, _, rest = url.partition("://")
    if "@" in rest:
        raise InvalidValue("the URL must not hold credentials")
    if not url.startswith(_SCHEME):
        raise InvalidValue(
            f"databases of kind {scheme[:20]} are not supported: write sqlite:///file.db or postgresql://user@host/database"
        )
    path = url.removeprefix(_SCHEME)
    if not path or "?" in path or "#" in path or path.startswith(":"):
        raise InvalidValue("the URL must name a file and nothing else: sqlite:///file.db")
    return path


@contextlib.contextmanager
def opened(root: Path, steps: Parts, seconds: float, writes: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection whose statements end after some seconds, read-only unless it `writes`.

    Raises invalid_value, limit_exceeded.
    """
    descriptor = folders.open_file(root, steps)
    path = root.joinpath(*steps)
    try:
        for kind in ("-wal", "-shm", "-journal"):
            if os.path.islink(f"{path}{kind}"):
                raise InvalidValue(f"{'/'.join(steps)}{kind} is a link: links are not followed")
        mode = "rw" if writes else "ro"
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, check_same_thread=False)
        with contextlib.closing(connection), _named("/".join(steps), writes):
            tame(connection, time.monotonic() + seconds, writes)
            # The name may have been turned into a link since: what was opened must be what was checked.
            if not os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor)):
                raise InvalidValue(f"{'/'.join(steps)} has been replaced")
            yield connection
    finally:
        os.close(descriptor)


def tame(connection: sqlite3.Connection, deadline: float, writes: bool = False) -> None:
    """Has statements end by a deadline of the monotonic clock, and change nothing unless it `writes`."""
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    connection.execute(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute(f"PRAGMA busy_timeout = {_BUSY}")
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LENGTH)
    connection.text_factory = lambda raw: raw.decode(errors="replace")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


@contextlib.contextmanager
def _named(file: str, writes: bool) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if "interrupted" in str(error):
            raise Failure(Code.LIMIT_EXCEEDED, f"{'writing' if writes else 'reading'} {file} takes too long") from None
        if "prohibited" in str(error) or "not authorized" in str(error):
            raise Failure(Code.SQL_NOT_ALLOWED, "the statement reads more than the table of its source") from None
        if "is locked" in str(error):
            raise Unavailable(f"{file} is locked by somebody else") from None
        raise InvalidValue(f"{file} cannot be {'written' if writes else 'read'}: {error}") from None


def describe(connection: sqlite3.Connection, source: SqlSource) -> Table:
    """The columns of a source's table. Raises invalid_value when it is no table, or the cursor is not unique."""
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    found = connection.execute(query, (source.table,)).fetchone()
    if found is None or not found[1].upper().startswith("CREATE TABLE"):
        raise InvalidValue(f"there is no table {source.table}")
    rows = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (source.table,)).fetchall()
    names = [name for name, _, _ in rows]
    if source.cursor not in names:
        raise InvalidValue(f"{source.table} has no column {source.cursor}")
    keys = [name for name, _, place in rows if place]
    if keys != [source.cursor] and not _is_unique(connection, source):
        raise InvalidValue(f"the cursor {source.cursor} is not unique: it needs a primary key or a unique index")
    empty = f"SELECT 1 FROM {quoted(source.table)} WHERE {quoted(source.cursor)} IS NULL LIMIT 1"
    if connection.execute(empty).fetchone():
        raise InvalidValue(f"the cursor {source.cursor} is NULL in some rows, which would never be read")
    declared = tuple((name, kind) for name, kind, _ in rows)
    return Table(tuple((name, _affinity(kind)) for name, kind in declared), declared=declared)


def _is_unique(connection: sqlite3.Connection, source: SqlSource) -> bool:
    indexes = connection.execute(
        'SELECT name FROM pragma_index_list(?) WHERE "unique" = 1 AND partial = 0', (source.table,)
    ).fetchall()
    for (index,) in indexes:
        columns = connection.execute("SELECT name FROM pragma_index_info(?)", (index,)).fetchall()
        if columns == [(source.cursor,)]:
            return True
    return False


def _affinity(declared: str) -> ColumnType | None:
    """What a declared type suggests, in the spirit of section 3.1 of SQLite's datatype document; None for no type."""
    kind = declared.strip().upper()
    if not kind:
        return None
    hints = (
        ("BOOL", ColumnType.BOOL),
        ("INT", ColumnType.INT64),
        ("DATETIME", ColumnType.TIMESTAMP),
        ("TIMESTAMP", ColumnType.TIMESTAMP),
        ("DATE", ColumnType.DATE),
        ("REAL", ColumnType.DOUBLE),
        ("FLOA", ColumnType.DOUBLE),
        ("DOUB", ColumnType.DOUBLE),
        ("NUM", ColumnType.DOUBLE),
        ("DEC", ColumnType.DOUBLE),
    )
    return next((column for hint, column in hints if hint in kind), ColumnType.STRING)


def confine(connection: sqlite3.Connection, table: str) -> set[str]:
    """From now on, statements may read this table and call harmless functions; nothing else compiles.

    The columns that they read come into the set, in lower case.
    """
    seen = set[str]()
    connection.set_authorizer(_guard(table.lower(), seen))
    return seen


def _guard(table: str, seen: set[str]) -> Callable[..., int]:
    def authorize(action: int, first: str | None, second: str | None, *_: Any) -> int:
        reads = action == sqlite3.SQLITE_READ and (first or "").lower() == table
        if reads:
            seen.add((second or "").lower())
        calls = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in FUNCTIONS
        return sqlite3.SQLITE_OK if action in _ALLOWED or reads or calls else sqlite3.SQLITE_DENY

    return authorize


def preview(connection: sqlite3.Connection, source: SqlSource, records: int) -> tuple[Sequence[str], list[Any]]:
    """The names of all columns and the first rows, at most so many and about 16 MiB of them."""
    confine(connection, source.table)
    table, cursor = quoted(source.table), quoted(source.cursor)
    found = connection.execute(f"SELECT * FROM {table} ORDER BY {cursor} LIMIT ?", (records,))
    return [column[0] for column in found.description], list(_bounded(found))


def _bounded(rows: Iterable[Any]) -> Iterator[Any]:
    """Rows until they have as many bytes as a sample may."""
    left = _SAMPLE
    for row in rows:
        yield row
        left -= sum(len(value) for value in row if isinstance(value, str | bytes))
        if left <= 0:
            return


def paging(source: SqlSource) -> str:
    """How a statement ends that `page` can run."""
    # After ORDER BY a name alone is first of all one of the columns that are selected.
    return _paging(source, f"{quoted(source.table)}.{quoted(source.cursor)}")


def _paging(source: SqlSource, order: str) -> str:
    cursor = quoted(source.cursor)
    return f"{cursor} >= :first AND {cursor} IS NOT :after ORDER BY {order} LIMIT :rows"


def page(connection: sqlite3.Connection, source: SqlSource, statement: str, after: Any, rows: int) -> list[Any]:
    """The rows of a checked statement above a cursor value (None: from the first), at most so many.

    Each page is a read of its own: a long extraction keeps no lock on a database that others write. Raises
    failed_precondition for a statement that was written for another cursor, or reads a column that is gone.
    """
    return _page(connection, source, statement, after, rows).fetchall()


def first(connection: sqlite3.Connection, source: SqlSource, statement: str, rows: int) -> list[Any]:
    """The first rows of a checked statement, at most so many and about 16 MiB of them. Raises as `page` does."""
    return list(_bounded(_page(connection, source, statement, None, rows)))


def _page(connection: sqlite3.Connection, source: SqlSource, statement: str, after: Any, rows: int) -> sqlite3.Cursor:
    if statement.endswith(before := _paging(source, quoted(source.cursor))):  # from before there was a table's name
        statement = statement.removesuffix(before) + paging(source)
    if not statement.endswith(paging(source)):
        raise FailedPrecondition(f"the rule was made for another cursor than {source.cursor}: add a version to it")
    # No constant is below every cursor: compared with a column of text, even minus infinity is the text "-Inf".
    begin = _edge(connection, source, "min") if after is None else after
    seen = confine(connection, source.table)  # has the statement compiled anew, for the table as it is now
    found = connection.execute(statement, {"first": begin, "after": after, "rows": rows})
    # A name that is no column any more would be read as a text, and be the value of each row.
    if gone := next((name for name in _named_in(statement) if name.lower() not in seen), None):
        raise FailedPrecondition(f"{source.table} has no column {gone} any more: add a version to the rule")
    return found


def _named_in(statement: str) -> list[str]:
    """The columns that a statement which we have written names."""
    found = _NAMES.findall(statement)
    return [name.replace('""', '"') for before, name, behind in found if name and not before and not behind]


def behind(connection: sqlite3.Connection, source: SqlSource, after: Any, most: int) -> int:
    """Rows above a cursor value (None: all), counted up to `most`."""
    above = "" if after is None else f" WHERE {quoted(source.cursor)} > :after"
    query = f"SELECT count(*) FROM (SELECT 1 FROM {quoted(source.table)}{above} LIMIT :most)"
    return int(connection.execute(query, {"after": after, "most": most}).fetchone()[0])


def newest(connection: sqlite3.Connection, source: SqlSource) -> Any:
    """The largest value of the cursor, or None in an empty table."""
    return _edge(connection, source, "max")


def _edge(connection: sqlite3.Connection, source: SqlSource, function: str) -> Any:
    return connection.execute(f"SELECT {function}({quoted(source.cursor)}) FROM {quoted(source.table)}").fetchone()[0]
