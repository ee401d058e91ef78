"""The SQL of DataFusion, where it differs from what sqlglot writes."""

from collections.abc import Callable
from typing import Any

from sqlglot import exp, generator
from sqlglot.dialects.dialect import Dialect

from services.data.sql import grammar


def _call(name: str, *parts: str) -> Callable[[Any, Any], str]:
    return lambda self, node: self.func(name, *(node.args.get(part) for part in parts))


def _part(name: str) -> Callable[[Any, Any], str]:
    return lambda self, node: f"DATE_PART('{name}', {self.sql(node, 'this')})"


def _cast(self: Any, node: Any) -> str:
    word = "TRY_CAST" if isinstance(node, exp.TryCast) else "CAST"
    return f"{word}({self.sql(node, 'this')} AS {grammar.TYPES[node.to.this]})"


def _extract(self: Any, node: Any) -> str:
    word = str(node.this.name).lower()
    return f"DATE_PART('{'dow' if word == 'dayofweek' else word}', {self.sql(node, 'expression')})"


def _interval(self: Any, node: Any) -> str:
    unit = node.args.get("unit")
    return f"INTERVAL '{int(node.this.name)} {str(unit.name).lower() if unit else 'day'}'"


def _date_trunc(self: Any, node: Any) -> str:
    return f"DATE_TRUNC('{str(node.args['unit'].name).lower()}', {self.sql(node, 'this')})"


class DataFusion(Dialect):
    """SQL as DataFusion reads it. Names are always quoted, so they are case-sensitive."""

    NULL_ORDERING = "nulls_are_large"

    class Generator(generator.Generator):
        """Writes SQL."""

        TRANSFORMS = {  # noqa: RUF012 - as sqlglot reads it
            **generator.Generator.TRANSFORMS,
            exp.Cast: _cast,
            exp.TryCast: _cast,
            exp.Extract: _extract,
            exp.Interval: _interval,
            exp.DateTrunc: _date_trunc,
            exp.TimestampTrunc: _date_trunc,
            exp.LogicalAnd: _call("BOOL_AND", "this"),
            exp.LogicalOr: _call("BOOL_OR", "this"),
            exp.Variance: _call("VAR_SAMP", "this"),
            exp.Sign: _call("SIGNUM", "this"),
            exp.IsNan: _call("ISNAN", "this"),
            exp.Substring: _call("SUBSTR", "this", "start", "length"),
            exp.Greatest: lambda self, node: self.func("GREATEST", node.this, *node.expressions),
            exp.Least: lambda self, node: self.func("LEAST", node.this, *node.expressions),
            exp.Date: lambda self, node: f"CAST({self.sql(node, 'this')} AS DATE)",
            exp.Log: lambda self, node: f"LOG{node.this.name}({self.sql(node, 'expression')})",
            exp.Year: _part("year"),
            exp.Quarter: _part("quarter"),
            exp.Month: _part("month"),
            exp.Day: _part("day"),
            exp.Hour: _part("hour"),
            exp.Minute: _part("minute"),
            exp.Second: _part("second"),
            exp.DayOfWeek: _part("dow"),
            exp.DayOfYear: _part("doy"),
            exp.WeekOfYear: _part("week"),
        }
