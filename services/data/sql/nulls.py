"""Refuses comparisons with NULL as a literal, and guards conditions that are NULL for every row without saying so.

Neither is ever true, but the scan of a Delta table by DataFusion takes a part of a condition that comes to be a NULL
without a column for true.
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
# What is no NULL where its operands are none.
_TRUE_TO = (
    *(exp.Binary, exp.Cast, exp.Extract, exp.AggFunc, exp.Coalesce, exp.Greatest, exp.Least, exp.Concat, exp.Abs),
    *(exp.Ceil, exp.Floor, exp.Round, exp.Upper, exp.Lower, exp.Length, exp.Left, exp.Right, exp.Replace),
    *(exp.Substring, exp.Trim, exp.StartsWith, exp.EndsWith, exp.Contains, exp.DateTrunc, exp.TimestampTrunc),
    *(exp.Date, exp.Year, exp.Quarter, exp.Month, exp.Day, exp.Hour, exp.Minute, exp.Second, exp.CurrentDate),
    *(exp.CurrentTimestamp, exp.RowNumber, exp.Rank, exp.DenseRank, exp.If),
)  # fmt: skip


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


def guard(tree: exp.Expression) -> None:
    """Has the engine ask of each part of a condition whether it is TRUE, where one may come to be NULL for every row.

    Only there: files are not left out by the statistics of columns that are asked so. Keys of joins stay as they are.
    """
    if not any(_may_be_void(node) for node in tree.walk()):
        return
    # Those within others first: a clause is written anew with what it has then.
    for clause in reversed(list(tree.find_all(*_CLAUSES))):
        part = "on" if isinstance(clause, exp.Join) else "this"
        if found := clause.args.get(part):
            clause.set(part, exp.and_(*map(_asked, found.flatten() if isinstance(found, exp.And) else [found])))


def _asked(part: Any) -> Any:
    part = part.unnest()
    if isinstance(part, exp.And):
        return exp.and_(*map(_asked, part.flatten()))
    inner = part.this.unnest() if isinstance(part, exp.Not) else part
    joined = isinstance(part, exp.EQ) and isinstance(part.this, exp.Column) and isinstance(part.expression, exp.Column)
    # What is computed as a join is no condition of a scan.
    if joined or isinstance(inner, exp.Exists) or (isinstance(inner, exp.In) and inner.args.get("query")):
        return part
    return exp.Is(this=exp.paren(part), expression=exp.true())


def _may_be_void(node: Any) -> bool:
    """Whether a value without a column may be NULL."""
    if isinstance(node, exp.Null):
        return not isinstance(node.parent, exp.Is | exp.NullSafeEQ | exp.NullSafeNEQ | exp.If | exp.Case)
    if isinstance(node, exp.Case):
        results = [*(one.args["true"] for one in node.args["ifs"]), node.args.get("default")]
        asked = [node.this] if node.this else [one.this for one in node.args["ifs"]]
        empty = all(one is None or isinstance(one, exp.Null) for one in results)
        return empty or not all(one.find(exp.Column) for one in asked)
    made = isinstance(node, exp.TryCast) or (isinstance(node, exp.Func) and not isinstance(node, _TRUE_TO))
    return made and not node.find(exp.Column)


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
