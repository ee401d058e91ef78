"""The only checker of callers' SQL: one SELECT over given tables. What runs is written from the tree that was checked.

`grammar` is an allow-list. The parser is loaded at the first check.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from services.data.sql.known import Condition
from services.kit.errors import Code, Failure

Dialect = Literal["datafusion", "sqlite"]
LONGEST = 20_000  # characters


@dataclass(frozen=True)
class CheckedQuery:
    """A SELECT as the engine gets it, and the tables that it reads.

    An engine may drop the order of a subquery. `order` has the sort keys as columns of the result, so that the result
    can be sorted; if they are no columns of it, `part` is the text with a limit, which keeps the order but takes many
    times longer.
    """

    text: str
    tables: frozenset[str]
    order: tuple[str, ...] = ()
    part: str = ""
    # By table: what holds for each row of it that the query needs.
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    # All names in the text, among them those of the columns that it needs; None where it may need every column.
    names: frozenset[str] | None = None


def refuse(detail: str) -> Failure:
    """The failure for SQL that is not allowed."""
    return Failure(Code.SQL_NOT_ALLOWED, detail)


def check_query(sql: str, tables: Collection[str], dialect: Dialect = "datafusion") -> CheckedQuery:
    """One SELECT that reads only these tables. Takes milliseconds: call it in a thread.

    Raises sql_not_allowed, naming what is not allowed.
    """
    from services.data.sql import rewriting

    return rewriting.query(sql, frozenset(tables), dialect)


def check_condition(expression: str) -> str:
    """A condition on the columns of one table, as the engine gets it: no subquery, aggregate or window.

    Raises sql_not_allowed, naming what is not allowed.
    """
    from services.data.sql import rewriting

    return rewriting.condition(expression)
