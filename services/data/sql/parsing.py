"""Parses SQL of callers within bounds. sqlglot tries some texts in two ways at every level: twenty words take minutes.

So the steps of its parser are counted, and a text that needs many times more than it has words is refused.
"""

from typing import Any

from services.kit.errors import Code, Failure

LONGEST = 20_000  # characters
_STEPS = 60  # for each word; a plain statement takes less than ten
_FREE = 2_000


class _TooManySteps(Exception):
    """The budget is spent."""


def statements(sql: str, dialect: Any) -> list[Any]:
    """The statements of a text, as trees. Raises sql_not_allowed for a tangled one, else what sqlglot raises."""
    from sqlglot.dialects.dialect import Dialect

    spoken = Dialect.get_or_raise(dialect)
    words = spoken.tokenize(sql)
    parser = spoken.parser()
    _count(parser, _FREE + _STEPS * len(words))
    try:
        return [statement for statement in parser.parse(words, sql) if statement is not None]
    except _TooManySteps:
        raise _refusal("the statement is too tangled to be checked: nest less") from None


def parse(sql: str, dialect: str) -> list[Any]:
    """The same. Raises sql_not_allowed only."""
    from sqlglot.errors import SqlglotError

    if len(sql) > LONGEST:
        raise _refusal(f"the statement has more than {LONGEST} characters")
    try:
        return statements(sql, dialect)
    except RecursionError:
        raise _refusal("the statement nests too deeply") from None
    except SqlglotError as error:
        reason = str(error).split(". ")[0].split("\n")[0][:200]
        raise _refusal(f"the statement cannot be parsed: {reason}") from None
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        # What the parser itself stumbles over is no statement.
        raise _refusal("the statement cannot be parsed") from None


def _count(parser: Any, budget: int) -> None:
    """Makes a parser stop when it has moved too often."""
    advance, left = parser._advance, [budget]

    def counted(times: int = 1) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise _TooManySteps
        advance(times)

    parser._advance = counted


def _refusal(text: str) -> Failure:
    return Failure(Code.SQL_NOT_ALLOWED, text)
