"""Refuses comparisons with NULL as a literal, and guards conditions that are NULL for every row without saying so.

Neither is ever true, but the scan of a Delta table by DataFusion takes a part of a condition that comes to be a NULL
without a column for true.
"""

from typing import Any, NamedTuple

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

    Only there, and not of columns of tables as they are stored: rows are not left out by the statistics of columns that
    are asked so. Keys of joins stay keys.
    """
    if not any(_may_be_void(node) for node in tree.walk()) and not _may_be_empty(tree):
        return
    made = {each.alias for each in tree.find_all(exp.CTE)}
    # Those within others first: a clause is written anew with what it has then.
    for clause in reversed(list(tree.find_all(*_CLAUSES))):
        part = "on" if isinstance(clause, exp.Join) else "this"
        if found := clause.args.get(part):
            clause.set(part, _asked(found, _reads(clause.find_ancestor(exp.Select), made), part == "on"))


def _may_be_empty(tree: exp.Expression) -> bool:
    """Whether the engine may see that a side of an outer join has no rows, whose columns are NULL then."""
    made = [each for each in tree.find_all(exp.Subquery) if isinstance(each.parent, exp.From | exp.Join)]
    outer = any(join.args.get("side") for join in tree.find_all(exp.Join))
    return outer and bool(made or tree.find(exp.CTE))


class _Reads(NamedTuple):
    """What a SELECT calls what it reads, and those that are tables as they are stored, of which each row has one."""

    all: set[str]
    stored: set[str]


def _reads(select: Any, made: set[str]) -> _Reads:
    sources = [*filter(None, [select.args.get("from_")]), *(select.args.get("joins") or [])]
    inner = [source.this for source in sources if not source.args.get("side")]
    stored = {each.alias_or_name for each in inner if isinstance(each, exp.Table) and each.name not in made}
    if any(source.args.get("side") not in (None, "", "LEFT") for source in sources):
        stored.clear()  # what stands before such a join may be what is not there
    if stored and len(sources) == 1 and not _may_be_correlated(select):
        stored.add("")  # a column without its table is of the only one
    return _Reads({source.this.alias_or_name for source in sources}, stored)


def _may_be_correlated(select: Any) -> bool:
    around = select.parent
    apart = around.parent if isinstance(around, exp.Subquery) else around
    return apart is not None and not isinstance(apart, exp.From | exp.Join | exp.CTE)


def _asked(part: Any, reads: _Reads, joins: bool) -> Any:
    part = part.unnest()
    if isinstance(part, exp.And):
        return exp.and_(*(_asked(each, reads, joins) for each in part.flatten()))
    inner = part.this.unnest() if isinstance(part, exp.Not) else part
    tables = {column.table for column in part.find_all(exp.Column)}
    apart = _compares_columns(part) and len(tables - {""}) == 2
    if (
        # What is computed as a join is no condition of a scan.
        (apart and (joins or not tables <= reads.all))
        or isinstance(inner, exp.Exists)
        or (isinstance(inner, exp.In) and inner.args.get("query"))
        or isinstance(inner, exp.Is | exp.NullSafeEQ | exp.NullSafeNEQ)  # which is never NULL
        or (tables and tables <= reads.stored and not part.find(exp.Query) and not any(map(_may_be_void, part.walk())))
    ):
        return part
    asked = exp.Is(this=exp.paren(part), expression=exp.true())
    # It may be the key of a join, of columns that are named without their tables.
    return exp.and_(part, asked) if joins and _compares_columns(part) else asked


def _compares_columns(node: Any) -> bool:
    return isinstance(node, exp.EQ) and isinstance(node.this, exp.Column) and isinstance(node.expression, exp.Column)


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
