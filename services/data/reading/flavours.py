"""What a SQL rule may say to each kind of database, and how its statement is made to read page by page."""

from collections.abc import Callable
from dataclasses import dataclass

from services.data.reading import postgres, sqlite
from services.data.reading.kinds import SqlSource
from services.data.reading.sqlite import Table
from services.data.schema import ColumnType, quoted

_PLAIN = """
    Select From Table TableAlias Identifier Column Alias Star Where Literal Null Boolean Paren Neg And Or Not EQ NEQ GT
    GTE LT LTE Is In Between Like Add Sub Mul Div Mod Case Cast DataType DPipe Tuple Escape Var BitwiseAnd BitwiseOr
    """.split()  # noqa: SIM905
_SQLITE_CALLS = """
    Abs Ceil Chr Coalesce Date Floor Greatest Hex If Least Length Lower LowerHex Nullif Replace Round Sign StrPosition
    Substring TimeToStr Trim TsOrDsToTimestamp Typeof Unicode Upper Anonymous
    """.split()  # noqa: SIM905
# What repeats or pads is not among them: it makes much out of little.
_POSTGRES_CALLS = """
    Abs Ceil Coalesce Extract Floor Greatest If ILike Least Left Length Lower Nullif Replace Right Round Sign
    StrPosition Substring TimestampTrunc Trim Upper
    """.split()  # noqa: SIM905
_SQLITE_TIMES = "Date TimeToStr TsOrDsToTimestamp date time datetime julianday unixepoch strftime".split()  # noqa: SIM905
_CASTS = {
    "INT": ColumnType.INT64,
    "BIGINT": ColumnType.INT64,
    "FLOAT": ColumnType.DOUBLE,
    "DOUBLE": ColumnType.DOUBLE,
    "TEXT": ColumnType.STRING,
    "VARCHAR": ColumnType.STRING,
}
_POSTGRES_CASTS = {
    **_CASTS,
    "DECIMAL": ColumnType.DOUBLE,
    "BOOLEAN": ColumnType.BOOL,
    "DATE": ColumnType.DATE,
    "TIMESTAMP": ColumnType.TIMESTAMP,
    "TIMESTAMPTZ": ColumnType.TIMESTAMP,
}


@dataclass(frozen=True)
class Flavour:
    """One kind of database. `nodes` are of the parsed tree; `calls` functions that it has no class for."""

    dialect: str
    nodes: frozenset[str]
    calls: frozenset[str]
    times: frozenset[str]
    casts: dict[str, ColumnType]
    # Whether only types of `casts` may be cast to: in PostgreSQL a cast may ask its catalogue.
    strict: bool
    # Texts that mean the present time.
    present: frozenset[str]
    # The statement for a source out of its columns and its condition.
    paged: Callable[[SqlSource, Table, str, str], str]


def _sqlite(source: SqlSource, table: Table, items: str, own: str) -> str:
    condition = f"({own}) AND " if own else ""
    return f"SELECT {items} FROM {quoted(source.table)} WHERE {condition}{sqlite.paging(source)}"


def _postgres(source: SqlSource, table: Table, items: str, own: str) -> str:
    chosen = f"{items}, {postgres.selection(source, table.key)}"
    return f"SELECT {chosen} FROM {postgres.relation(source)} WHERE ({own or 'TRUE'})"


SQLITE = Flavour(
    "sqlite",
    frozenset([*_PLAIN, *_SQLITE_CALLS, "Collate"]),
    sqlite.FUNCTIONS,
    frozenset(_SQLITE_TIMES),
    _CASTS,
    False,
    frozenset(["now"]),
    _sqlite,
)
POSTGRES = Flavour(
    "postgres",
    frozenset([*_PLAIN, *_POSTGRES_CALLS]),
    frozenset(),
    frozenset(),
    _POSTGRES_CASTS,
    True,
    frozenset(["now", "today", "tomorrow", "yesterday"]),
    _postgres,
)


def flavour(source: SqlSource) -> Flavour:
    """That of a source."""
    return POSTGRES if source.remote else SQLITE
