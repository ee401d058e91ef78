"""How Daft writes SQL, where it differs from what the parser knows."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.generator import Generator

from services.data.sql import grammar, refuse


_PARTS = {"DOW": "DAY_OF_WEEK", "DAYOFWEEK": "DAY_OF_WEEK", "DOY": "DAY_OF_YEAR", "WEEK": "WEEK_OF_YEAR"}


def _call(name: str, *parts: str) -> Callable[[Any, Any], str]:
    return lambda self, node: self.func(name, *(node.args.get(part) for part in parts))


def _cast(self: Any, node: Any) -> str:
    """Time literals carry their zone: Daft compares times with a zone only to each other."""
    kind = grammar.TYPES[node.to.this]
    if kind == "TIMESTAMP" and isinstance(node.this, exp.Literal) and node.this.is_string:
        return f"TIMESTAMP '{_moment(str(node.this.this)):%Y-%m-%d %H:%M:%S +0000}'"
    return f"CAST({self.sql(node, 'this')} AS {kind})"


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise refuse(f"{text[:40]!r} is not a timestamp") from None
    if moment.microsecond:
        raise refuse(f"the timestamp {text[:40]!r} must be of whole seconds")
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _trim(self: Any, node: Any) -> str:
    inner, position = self.sql(node, "this"), str(node.args.get("position") or "").upper()
    inner = inner if position == "LEADING" else f"RSTRIP({inner})"
    return inner if position == "TRAILING" else f"LSTRIP({inner})"


def _case(self: Any, node: Any) -> str:
    """Daft knows only the searched form with ELSE."""
    operand, parts = node.args.get("this"), ["CASE"]
    for branch in node.args["ifs"]:
        when = exp.EQ(this=operand.copy(), expression=branch.this.copy()) if operand else branch.this
        parts += ["WHEN", self.sql(when), "THEN", self.sql(branch, "true")]
    return " ".join([*parts, "ELSE", self.sql(node, "default") or "NULL", "END"])


def _if(self: Any, node: Any) -> str:
    return _case(self, exp.Case(ifs=[node.copy()], default=node.args.get("false")))


def _nullif(self: Any, node: Any) -> str:
    left, right = self.sql(node, "this"), self.sql(node, "expression")
    return f"CASE WHEN {left} = {right} THEN NULL ELSE {left} END"


def _concat(self: Any, node: Any) -> str:
    return f"CONCAT({', '.join(self.sql(part) for part in node.expressions)})"


def _extract(self: Any, node: Any) -> str:
    word = str(node.this.name).upper()
    return f"{_PARTS.get(word, word)}({self.sql(node, 'expression')})"


def _interval(self: Any, node: Any) -> str:
    unit = node.args.get("unit")
    return f"INTERVAL '{int(node.this.name)} {str(unit.name).lower() if unit else 'day'}'"


def _date_trunc(self: Any, node: Any) -> str:
    return f"DATE_TRUNC('{str(node.args['unit'].name).lower()}', {self.sql(node, 'this')})"


class Daft(Dialect):
    """SQL as Daft reads it; names are always quoted, so their case counts."""

    NULL_ORDERING = "nulls_are_large"

    class Generator(Generator):
        """Writes it."""

        TRANSFORMS = {  # noqa: RUF012 - the parser's own way
            **Generator.TRANSFORMS,
            exp.Cast: _cast,
            exp.TryCast: _cast,
            exp.Case: _case,
            exp.If: _if,
            exp.Trim: _trim,
            exp.Nullif: _nullif,
            exp.Concat: _concat,
            exp.Extract: _extract,
            exp.Interval: _interval,
            exp.DateTrunc: _date_trunc,
            exp.TimestampTrunc: _date_trunc,
            exp.DPipe: lambda self, node: f"CONCAT({self.sql(node, 'this')}, {self.sql(node, 'expression')})",
            exp.NullSafeEQ: lambda self, node: self.binary(node, "<=>"),
            exp.NullSafeNEQ: lambda self, node: f"NOT ({self.binary(node, '<=>')})",
            exp.LogicalAnd: _call("BOOL_AND", "this"),
            exp.LogicalOr: _call("BOOL_OR", "this"),
            exp.Log: lambda self, node: f"LOG{node.this.name}({self.sql(node, 'expression')})",
            exp.Substring: _call("SUBSTRING", "this", "start", "length"),
        }
