"""What conditions of a checked query say of the columns of its tables, as far as that can be told from their form.

Everything else is taken for true of every row: a condition here holds for at least the rows that the query needs.
"""

from collections.abc import Iterable
from typing import Any

from sqlglot import exp

from services.data.sql.known import ANYTHING, All, Among, Between, Condition, Constant, Null, Some

_OPPOSITE: dict[type, type] = {exp.LT: exp.GTE, exp.LTE: exp.GT, exp.GT: exp.LTE, exp.GTE: exp.LT,
                               exp.EQ: exp.NEQ, exp.NEQ: exp.EQ}  # fmt: skip
_MIRRORED: dict[type, type] = {exp.LT: exp.GT, exp.LTE: exp.GTE, exp.GT: exp.LT, exp.GTE: exp.LTE}


def conditions(tree: exp.Expression, tables: Iterable[str]) -> dict[str, Condition]:
    """By table: what holds for each row that the query needs of it, wherever it reads the table."""
    found: dict[str, list[Condition]] = {name: [] for name in tables}
    for table in tree.find_all(exp.Table):
        if table.name in found:
            found[table.name].append(_of(table))
    return {name: Some(tuple(each)) for name, each in found.items()}


def _of(table: Any) -> Condition:
    """What WHERE says where a SELECT reads a table in FROM or in an inner join."""
    select = table.parent.parent
    if not isinstance(table.parent, exp.From | exp.Join) or not isinstance(select, exp.Select):
        return ANYTHING
    where = select.args.get("where")
    # The rows that an outer join makes of nothing are not of the table.
    if where is None or any(join.args.get("side") for join in select.args.get("joins") or ()):
        return ANYTHING
    return _Reader(table.alias_or_name).read(where.this)


class _Reader:
    """Reads conditions on the columns of one table of a SELECT."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def read(self, node: Any, holds: bool = True) -> Condition:
        """What is known where a condition is true, or where it is false."""
        match node:
            case exp.Paren():
                return self.read(node.this, holds)
            case exp.Not():
                return self.read(node.this, not holds)
            case exp.And() | exp.Or():
                parts = (self.read(node.this, holds), self.read(node.expression, holds))
                return All(parts) if isinstance(node, exp.And) is holds else Some(parts)
            case exp.Column():
                name = self._column(node)
                return Among(name, (Constant("boolean", str(holds).lower()),)) if name else ANYTHING
            case exp.In():
                return self._among(node, holds)
            case exp.Between():
                return self._between(node, holds)
            case exp.Is() | exp.NullSafeEQ():
                return self._is(node, holds)
        return self._compared(node, holds)

    def _column(self, node: Any) -> str:
        """The name of a column of the table; that of any table where none is said. Empty for anything else."""
        node = _bare(node)
        there = isinstance(node, exp.Column) and node.table in ("", self._alias)
        return str(node.name) if there else ""

    def _among(self, node: Any, holds: bool) -> Condition:
        name, values = self._column(node.this), [_constant(value) for value in node.expressions]
        if not name or node.args.get("query") or not values:
            return ANYTHING
        known = tuple(value for value in values if value)
        return Null(name, False) if not holds else Among(name, known) if len(known) == len(values) else ANYTHING

    def _between(self, node: Any, holds: bool) -> Condition:
        name = self._column(node.this)
        if not name:
            return ANYTHING
        if not holds:  # x NOT BETWEEN a AND b is true for some x also where one of the two is NULL, never for NULL
            return Null(name, False)
        return Between(name, _constant(node.args["low"]), _constant(node.args["high"]))

    def _is(self, node: Any, holds: bool) -> Condition:
        name, value = self._column(node.this), _bare(node.expression)
        if not name:
            return ANYTHING
        if isinstance(value, exp.Null):
            return Null(name, holds)
        constant = _constant(value)
        return Among(name, (constant,)) if holds and constant else ANYTHING

    def _compared(self, node: Any, holds: bool) -> Condition:
        kind = type(node)
        if kind not in _OPPOSITE:
            return ANYTHING
        name, value = self._column(node.this), _constant(node.expression)
        if not name:
            name, value, kind = self._column(node.expression), _constant(node.this), _MIRRORED.get(kind, kind)
        kind = kind if holds else _OPPOSITE[kind]
        if not name or value is None:
            return ANYTHING
        if kind is exp.NEQ:
            return Null(name, False)
        if kind is exp.EQ:
            return Among(name, (value,))
        return Between(name, high=value) if kind in (exp.LT, exp.LTE) else Between(name, low=value)


def _bare(node: Any) -> Any:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _constant(node: Any) -> Constant | None:
    """A literal; None for what is none, or none whose value is sure."""
    node = _bare(node)
    match node:
        case exp.Literal():
            return Constant("string" if node.is_string else "number", str(node.this))
        case exp.Boolean():
            return Constant("boolean", str(bool(node.this)).lower())
        case exp.Neg():
            inner = _constant(node.this)
            return Constant("number", f"-{inner.text}") if inner and inner.kind == "number" else None
        case exp.Cast() | exp.TryCast() if isinstance(node.this, exp.Literal) and node.this.is_string:
            if node.to.this is exp.DType.DATE:
                return Constant("date", str(node.this.this))
            if node.to.this in (exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ):
                return Constant("timestamp", str(node.this.this))
    return None
