"""From SQL that was checked to the text that the engine runs: every name quoted, every result column named."""

from collections.abc import Iterator

from sqlglot import exp

from services.data.sql import CheckedQuery, Dialect, checking, grammar, refuse
from services.data.sql.datafusion import DataFusion


def query(sql: str, tables: frozenset[str], dialect: Dialect) -> CheckedQuery:
    """Raises sql_not_allowed."""
    ours = dialect == "datafusion"
    tree = checking.parse(sql, DataFusion if ours else dialect)
    if not isinstance(tree, exp.Select | exp.Union | exp.Intersect | exp.Except):
        raise refuse("only SELECT is allowed")
    checking.check(tree, grammar.PARTS, dialect)
    read = _tables(tree, tables)
    if not ours:
        return CheckedQuery(_write(tree, dialect), read)
    for select in tree.find_all(exp.Select):
        _name_columns(select)
    return CheckedQuery(_write(tree, DataFusion), read, _order(tree))


def condition(expression: str) -> str:
    """Raises sql_not_allowed."""
    tree = checking.parse(expression, DataFusion)
    checking.check(tree, grammar.ROW, "datafusion")
    for column in tree.find_all(exp.Column):
        if column.table:
            raise refuse(f"a condition names columns without a table: {column.name}")
    return _write(tree, DataFusion)


def _write(tree: exp.Expr, dialect: str | type[DataFusion]) -> str:
    return tree.sql(dialect=dialect, identify=True, comments=False)


def _tables(tree: exp.Expression, tables: frozenset[str]) -> frozenset[str]:
    """The tables that are read. Raises sql_not_allowed for one that was not named."""
    ours = [cte.alias for cte in tree.find_all(exp.CTE)]
    if twice := {name for name in ours if ours.count(name) > 1 or name in tables}:
        raise refuse(f"the name {min(twice)[:60]} is used twice")
    read = {table.name for table in tree.find_all(exp.Table)} - set(ours)
    if unknown := read - tables:
        raise refuse(f"the query reads {min(unknown)[:60]}, which is not among its tables")
    return frozenset(read)


def _name_columns(select: exp.Select) -> None:
    """Names every result column. Raises sql_not_allowed when two have the same name."""
    named, seen = [], set[str]()
    if not select.expressions:
        raise refuse("a SELECT needs columns")
    for number, column in enumerate(select.expressions, 1):
        if column.is_star:
            named.append(column)
            continue
        given = column.alias_or_name if isinstance(column, exp.Alias | exp.Column) else ""
        name = given or (column.sql_name().lower() if isinstance(column, exp.Func) else f"column_{number}")
        name = name if given or name not in seen else f"{name}_{number}"
        if name in seen:
            raise refuse(f"the result has two columns {name[:60]}")
        if name.startswith("__"):
            raise refuse(f"the column name {name[:60]} must not begin with two underscores")
        seen.add(name)
        bare = column.this if isinstance(column, exp.Alias) else column
        named.append(exp.alias_(bare, name, quoted=True))
    select.set("expressions", named)


def _order(tree: exp.Expression) -> tuple[str, ...]:
    """The keys of the outermost ORDER BY, where they are columns of the result."""
    order = tree.args.get("order")
    return tuple(_write(key, DataFusion) for key in _keys(order) if not key.this.table) if order else ()


def _keys(order: exp.Expr) -> Iterator[exp.Expr]:
    for key in order.expressions:
        if not isinstance(key.this, exp.Column):
            return
        yield key
