"""What SQL may contain: kinds of nodes, the parts of each, and how many."""

from typing import Any

from sqlglot import exp

_OPERANDS = ("this", "expression", "expressions")
# Other parts must be empty: a clause that a later parser knows is refused, not ignored.
_STRUCTURE: dict[type[exp.Expression], tuple[str, ...]] = {
    exp.Select: ("expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset", "distinct",
                 "with_"),
    exp.Union: ("this", "expression", "distinct", "with_", "order", "limit", "offset"),
    exp.Intersect: ("this", "expression", "distinct", "with_", "order", "limit", "offset"),
    exp.Except: ("this", "expression", "distinct", "with_", "order", "limit", "offset"),
    exp.From: ("this",),
    exp.Where: ("this",),
    exp.Group: ("expressions",),
    exp.Having: ("this",),
    exp.Order: ("expressions",),
    exp.Ordered: ("this", "desc", "nulls_first"),
    exp.Limit: ("expression",),
    exp.Offset: ("expression",),
    exp.Distinct: ("expressions",),
    exp.With: ("expressions",),
    exp.CTE: ("this", "alias"),
    exp.Table: ("this", "alias"),
    exp.TableAlias: ("this",),
    exp.Subquery: ("this", "alias"),
    exp.Join: ("this", "side", "kind", "on", "using"),
    exp.Alias: ("this", "alias"),
    exp.Column: ("this", "table"),
    exp.Identifier: ("this", "quoted"),
    exp.Star: (),
    exp.Tuple: ("expressions",),
}  # fmt: skip
_VALUES: dict[type[exp.Expression], tuple[str, ...]] = {
    exp.Literal: ("this", "is_string"),
    exp.Boolean: ("this",),
    exp.Null: (),
    exp.Paren: ("this",),
    exp.Case: ("this", "ifs", "default"),
    exp.If: ("this", "true", "false"),
    exp.In: ("this", "expressions", "query"),
    exp.Between: ("this", "low", "high"),
    exp.Exists: ("this",),
    exp.Cast: ("this", "to"),
    exp.TryCast: ("this", "to", "safe"),
    exp.DataType: ("this", "nested"),
    exp.Interval: ("this", "unit"),
    exp.Var: ("this",),
    exp.Extract: ("this", "expression"),
    exp.Window: ("this", "partition_by", "order", "spec", "over"),
    exp.WindowSpec: ("kind", "start", "start_side", "end", "end_side"),
    **dict.fromkeys(
        (
            *(exp.Neg, exp.Not, exp.And, exp.Or, exp.Add, exp.Sub, exp.Mul, exp.Mod),
            *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Is, exp.Like),
        ),
        _OPERANDS,
    ),
    exp.Div: (*_OPERANDS, "typed", "safe"),
    exp.DPipe: (*_OPERANDS, "safe"),
}
_FUNCTIONS: dict[type[exp.Expression], tuple[str, ...]] = {
    **dict.fromkeys(
        (
            *(exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Stddev, exp.StddevSamp, exp.Variance, exp.Median),
            *(exp.LogicalAnd, exp.LogicalOr, exp.Abs, exp.Ceil, exp.Floor, exp.Sqrt, exp.Exp, exp.Ln, exp.Log, exp.Pow),
            *(exp.Sign, exp.Sin, exp.Cos, exp.Tan, exp.IsNan, exp.Coalesce, exp.Nullif, exp.Upper, exp.Lower),
            *(exp.Length, exp.Left, exp.Right, exp.Replace, exp.StartsWith, exp.EndsWith, exp.Contains),
            *(exp.RowNumber, exp.Rank, exp.DenseRank, exp.Year, exp.Quarter, exp.Month, exp.Day, exp.Hour, exp.Minute),
            *(exp.Second, exp.DayOfWeek, exp.DayOfYear, exp.WeekOfYear, exp.Date),
        ),
        _OPERANDS,
    ),
    exp.Count: ("this", "big_int"),
    exp.Filter: ("this", "expression"),
    exp.FirstValue: ("this",),
    exp.LastValue: ("this",),
    exp.Greatest: ("this", "expressions", "ignore_nulls"),
    exp.Least: ("this", "expressions", "ignore_nulls"),
    exp.Concat: ("expressions", "safe"),
    exp.Ceil: ("this",),
    exp.Round: ("this", "decimals"),
    exp.Substring: ("this", "start", "length"),
    exp.Replace: ("this", "expression", "replacement"),
    exp.Trim: ("this", "position"),
    exp.Lag: ("this", "offset", "default"),
    exp.Lead: ("this", "offset", "default"),
    exp.DateTrunc: ("unit", "this", "input_type_preserved", "unit_can_be_part"),
    exp.TimestampTrunc: ("unit", "this"),
}
PARTS = _STRUCTURE | _VALUES | _FUNCTIONS
# What a condition may contain: nothing that reads tables or several rows.
ROW = {
    kind
    for kind in _VALUES | _FUNCTIONS | {exp.Column: (), exp.Identifier: ()}
    if not issubclass(kind, exp.AggFunc | exp.Window | exp.WindowSpec | exp.Exists)
    and kind not in (exp.RowNumber, exp.Rank, exp.DenseRank, exp.Lag, exp.Lead, exp.Filter)
}
# Functions without a kind of node: those of SQLite that read no clock, file or random number.
NAMED = {"datafusion": frozenset[str](), "sqlite": frozenset({"ifnull", "printf", "hex", "unicode"})}
TYPES = {
    **dict.fromkeys((exp.DType.BIGINT, exp.DType.INT, exp.DType.SMALLINT, exp.DType.TINYINT), "BIGINT"),
    **dict.fromkeys((exp.DType.DOUBLE, exp.DType.FLOAT), "DOUBLE"),
    **dict.fromkeys((exp.DType.TEXT, exp.DType.VARCHAR), "VARCHAR"),
    **dict.fromkeys((exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ), "TIMESTAMP"),
    exp.DType.BOOLEAN: "BOOLEAN",
    exp.DType.DATE: "DATE",
}
JOINS = {("", ""), ("", "INNER"), ("LEFT", ""), ("LEFT", "OUTER"), ("RIGHT", ""), ("RIGHT", "OUTER"), ("FULL", "OUTER"),
         ("FULL", "")}  # fmt: skip
UNITS = {"YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "DAYOFWEEK", "DOW", "DOY"}
# The most of each; queries that people write have far fewer.
TOKENS, NODES, DEPTH, BRACKETS, JOINED, SELECTS = 5_000, 5_000, 120, 24, 12, 40


def empty(value: Any) -> bool:
    """Whether a part is not set."""
    return value is None or value is False or value == [] or value == ""
