"""Refuses comparisons with NULL as a literal.

They are never true, and the scan of a Delta table by DataFusion takes a condition that is NULL for every row for true.
"""

from typing import Any

from sqlglot import exp

from services.data.sql import refuse

_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like)
_LOGIC = (exp.And, exp.Or, exp.Not)
_CLAUSES = (exp.Where, exp.Having, exp.Join)
_WRAPPED = (exp.Paren, exp.Cast, exp.TryCast, exp.Neg, exp.Upper, exp.Lower, exp.Abs, exp.Length, exp.Date, exp.Alias)
_EITHER = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.DPipe)
_ALL = (exp.Coalesce, exp.Greatest, exp.Least)


def check(tree: exp.Expression) -> None:
    """Raises sql_not_allowed for a comparison, or a condition, that NULL makes NULL for every row."""
    # From the leaves up, each node once.
    void = set[int]()
    for node in reversed(list[Any](tree.walk())):
        if _is_void(node, void):
            void.add(id(node))
        elif isinstance(node, _COMPARISONS) and _any(node.this, node.expression, void=void):
            raise _refusal("a comparison")
        elif isinstance(node, exp.In) and _any(node.this, *node.expressions, void=void):
            raise _refusal("IN")
        elif isinstance(node, exp.Between) and _any(node.this, node.args["low"], node.args["high"], void=void):
            raise _refusal("BETWEEN")
        elif isinstance(node, _LOGIC) and _any(node.this, node.args.get("expression"), void=void):
            raise _refusal("AND, OR or NOT")
        elif isinstance(node, _CLAUSES) and _any(node.args.get("on") or node.this, void=void):
            raise _refusal("a condition")


def _refusal(where: str) -> Exception:
    return refuse(f"{where} with NULL is never true: write IS NULL or IS NOT NULL")


def _any(*nodes: exp.Expression | None, void: set[int]) -> bool:
    return any(id(node) in void for node in nodes if node is not None)


def _is_void(node: exp.Expression, void: set[int]) -> bool:
    """Whether a value is NULL for every row, as far as its form says so."""
    if isinstance(node, exp.Null):
        return True
    if isinstance(node, _WRAPPED):
        return id(node.this) in void
    if isinstance(node, _EITHER):
        return _any(node.this, node.expression, void=void)
    if isinstance(node, _ALL):
        return all(id(part) in void for part in (node.this, *node.expressions))
    return False
