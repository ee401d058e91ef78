"""Parses SQL of callers in bounded time.

sqlglot tries some texts in two ways at every level, so that twenty words take minutes. The steps of its parser are
counted, and a text that needs too many for its words is refused.
"""

from typing import Any

from services.data.sql import LONGEST, refuse

_STEPS = 60  # for each word; a usual statement takes fewer than ten
_FREE = 2_000  # steps for any text


class _TooManySteps(Exception):
    """The parser has taken too many steps."""


def statements(sql: str, dialect: Any) -> list[Any]:
    """The statements of a text, as trees. Raises sql_not_allowed after too many steps, else what sqlglot raises."""
    from sqlglot.dialects.dialect import Dialect

    spoken = Dialect.get_or_raise(dialect)
    words = spoken.tokenize(sql)
    parser = spoken.parser()
    _count(parser, _FREE + _STEPS * len(words))
    try:
        return [statement for statement in parser.parse(words, sql) if statement is not None]
    except _TooManySteps:
        raise refuse("the statement is too tangled to be checked: nest less") from None


def parse(sql: str, dialect: str) -> list[Any]:
    """The statements of a text, as trees. Raises sql_not_allowed."""
    from sqlglot.errors import SqlglotError

    if len(sql) > LONGEST:
        raise refuse(f"the statement has more than {LONGEST} characters")
    try:
        return statements(sql, dialect)
    except RecursionError:
        raise refuse("the statement nests too deeply") from None
    except SqlglotError as error:
        reason = str(error).split(". ")[0].split("\n")[0][:200]
        raise refuse(f"the statement cannot be parsed: {reason}") from None
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        # The parser fails on some texts that are no statements.
        raise refuse("the statement cannot be parsed") from None


def _count(parser: Any, budget: int) -> None:
    """Makes a parser raise _TooManySteps after `budget` steps."""
    advance, left = parser._advance, [budget]

    def counted(times: int = 1) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise _TooManySteps
        advance(times)

    parser._advance = counted
