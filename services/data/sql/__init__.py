"""The one checker of SQL that a caller wrote: one SELECT over named tables, and the text that was checked is what runs.

The grammar is an allow-list: what is not named in `grammar` is refused. The parser is loaded at the first check.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from services.kit.errors import Code, Failure

Dialect = Literal["datafusion", "sqlite"]
LONGEST = 20_000  # characters


@dataclass(frozen=True)
class CheckedQuery:
    """A SELECT as the engine gets it, and the tables that it reads.

    An engine forgets the order of a part of a query. So `order` has the keys as columns of the result, for the whole
    to be sorted by; where they are none, `part` is the text with an order that lasts, which takes many times longer.
    """

    text: str
    tables: frozenset[str]
    order: tuple[str, ...] = ()
    part: str = ""


def refuse(detail: str) -> Failure:
    """The failure for SQL that does more than it may."""
    return Failure(Code.SQL_NOT_ALLOWED, detail)


def check_query(sql: str, tables: Collection[str], dialect: Dialect = "datafusion") -> CheckedQuery:
    """One SELECT that reads nothing but these tables. Takes milliseconds: call it beside the event loop.

    Raises sql_not_allowed, naming what is not allowed.
    """
    from services.data.sql import rewriting

    return rewriting.query(sql, frozenset(tables), dialect)


def check_condition(expression: str) -> str:
    """A condition over the columns of one table, as the engine has it: no subquery, aggregate or window.

    Raises sql_not_allowed, naming what is not allowed.
    """
    from services.data.sql import rewriting

    return rewriting.condition(expression)
