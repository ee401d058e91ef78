"""Writes checked SQL as the engine runs it: every name is quoted, every result column named."""

from sqlglot import exp

from services.data.sql import CheckedQuery, Dialect, checking, grammar, nulls, refuse
from services.data.sql.conditions import conditions
from services.data.sql.datafusion import DataFusion

_ALL = 2**63 - 1  # more rows than there can be


def query(sql: str, tables: frozenset[str], dialect: Dialect) -> CheckedQuery:
    """Raises sql_not_allowed."""
    ours = dialect == "datafusion"
    tree = checking.parse(sql, DataFusion if ours else dialect)
    if not isinstance(tree, exp.Select | exp.Union | exp.Intersect | exp.Except):
        raise refuse("only SELECT is allowed")
    checking.check(tree, grammar.PARTS, dialect)
    read = _tables(tree, tables)
    if not ours:
        text = _write(tree, dialect)
        return CheckedQuery(text, read, part=text)
    known = conditions(tree, read)
    nulls.guard(tree)
    names = _names(tree)
    for select in tree.find_all(exp.Select):
        _name_columns(select)
    text, keys = _write(tree, DataFusion), _keys(tree)
    if None not in keys or tree.args.get("limit"):
        return CheckedQuery(text, read, tuple(filter(None, keys)) if None not in keys else (), text, known, names)
    return CheckedQuery(text, read, (), _write(tree.limit(_ALL), DataFusion), known, names)


def _names(tree: exp.Expression) -> frozenset[str] | None:
    """All names in a query; None where a star stands for columns."""
    if any(not isinstance(star.parent, exp.Count) for star in tree.find_all(exp.Star)):
        return None
    return frozenset(name.name for name in tree.find_all(exp.Identifier))


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
    """The tables that a query reads. Raises sql_not_allowed for one that is not given."""
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


def _keys(tree: exp.Expression) -> list[str | None]:
    """The keys of the outermost ORDER BY as columns of the result; None for a key that is no column of it."""
    order = tree.args.get("order")
    first = tree
    while isinstance(first, exp.SetOperation | exp.Subquery):
        first = first.this  # names the columns of the whole
    columns = first.expressions
    found = list[str | None]()
    for key in order.expressions if order else ():
        name = _named(key.this, columns) or (_made(key.this, tree) if first is tree else "")
        found.append(_sorted_by(key, name) if name else None)
    return found


def _sorted_by(key: exp.Expression, name: str) -> str:
    key = key.copy()
    key.set("this", exp.column(name, quoted=True))
    return _write(key, DataFusion)


def _named(key: exp.Expression, columns: list[exp.Expression]) -> str:
    """The result column that a key refers to by name or number."""
    names = [column.alias for column in columns if not column.is_star]
    if isinstance(key, exp.Literal) and not key.is_string and len(names) == len(columns):
        place = str(key.this)
        return str(names[int(place) - 1]) if place.isdecimal() and 0 < int(place) <= len(names) else ""
    there = isinstance(key, exp.Column) and (key.name in names or any(isinstance(c, exp.Star) for c in columns))
    return str(key.name) if there and not key.args.get("table") else ""


def _made(key: exp.Expression, select: exp.Expression) -> str:
    """The result column that is made of the same column as a key."""
    if not isinstance(key, exp.Column):
        return ""
    for column in select.expressions:
        if isinstance(column, exp.Alias) and column.this == key:
            return str(column.alias)
    names = [column.alias for column in select.expressions]
    alone = not select.args.get("joins") and any(isinstance(column, exp.Star) for column in select.expressions)
    return str(key.name) if alone and key.name not in names else ""
