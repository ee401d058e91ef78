"""From SQL that was checked to the text that the engine runs.

Every table gets a name of ours and every result column a name, so that a table called like a column cannot be mistaken
for it. Columns that begin with two underscores do not exist (`services.data.schema`), so our names collide with none.
"""

from collections.abc import Iterable, Iterator

from sqlglot import exp

from services.data.sql import CheckedQuery, Dialect, checking, grammar, refuse
from services.data.sql.daft import Daft

_OURS = "__t_"


def query(sql: str, tables: frozenset[str], dialect: Dialect) -> CheckedQuery:
    """Raises sql_not_allowed."""
    tree = checking.parse(sql, "daft" if dialect == "daft" else "sqlite")
    if not isinstance(tree, exp.Select | exp.Union | exp.Intersect):
        raise refuse("only SELECT is allowed")
    checking.check(tree, grammar.PARTS, dialect)
    read = _tables(tree, tables)
    if dialect == "sqlite":
        return CheckedQuery(_write(tree, "sqlite"), read)
    _align_unions(tree)
    _name_tables(tree)
    for select in tree.find_all(exp.Select):
        _name_columns(select)
    return CheckedQuery(_write(tree, "daft"), read)


def condition(expression: str) -> str:
    """Raises sql_not_allowed."""
    tree = checking.parse(expression, "daft")
    checking.check(tree, grammar.ROW, "daft")
    for column in tree.find_all(exp.Column):
        if column.table:
            raise refuse(f"a condition names columns without a table: {column.name}")
    return _write(tree, "daft")


def _write(tree: exp.Expression, dialect: str) -> str:
    chosen = Daft if dialect == "daft" else dialect
    return tree.sql(dialect=chosen, identify=True, comments=False, copy=True)


def _tables(tree: exp.Expression, tables: frozenset[str]) -> frozenset[str]:
    """The tables that are read. Raises sql_not_allowed for one that was not named."""
    ours = [cte.alias for cte in tree.find_all(exp.CTE)]
    if twice := {name for name in ours if ours.count(name) > 1 or name in tables}:
        raise refuse(f"the name {min(twice)[:60]} is used twice")
    read = {table.name for table in tree.find_all(exp.Table)} - set(ours)
    if unknown := read - tables:
        raise refuse(f"the query reads {min(unknown)[:60]}, which is not among its tables")
    return frozenset(read)


def _name_tables(tree: exp.Expression) -> None:
    """One mapping for the whole text, so that scopes need not be known: a name means what it meant before."""
    for number, source in enumerate(list(_sources(tree))):
        name = source.alias or (source.name if isinstance(source, exp.Table) else f"_{number}")
        source.set("alias", exp.TableAlias(this=exp.to_identifier(_OURS + name)))
    for column in tree.find_all(exp.Column):
        if column.table:
            column.set("table", exp.to_identifier(_OURS + column.table))


def _sources(tree: exp.Expression) -> Iterator[exp.Expression]:
    for place in tree.find_all(exp.From, exp.Join):
        if isinstance(place.this, exp.Table | exp.Subquery):
            yield place.this


def _name_columns(select: exp.Select) -> None:
    """Names every result column. Raises sql_not_allowed when two have the same name."""
    named, seen = [], set[str]()
    for number, column in enumerate(select.expressions, 1):
        if column.is_star:
            named.append(column)
            continue
        given = _given_name(column)
        name = given or _default_name(column, number)
        name = name if given or name not in seen else f"{name}_{number}"
        if name in seen:
            raise refuse(f"the result has two columns {name[:60]}")
        if name.startswith("__"):
            raise refuse(f"the column name {name[:60]} must not begin with two underscores")
        seen.add(name)
        bare = column.this if isinstance(column, exp.Alias) else column
        named.append(exp.alias_(bare, name, quoted=True))
    select.set("expressions", named)


def _given_name(column: exp.Expression) -> str:
    return column.alias_or_name if isinstance(column, exp.Alias | exp.Column) else ""


def _default_name(column: exp.Expression, number: int) -> str:
    return column.sql_name().lower() if isinstance(column, exp.Func) else f"column_{number}"


def _align_unions(tree: exp.Expression) -> None:
    """SQL matches the columns of a UNION by place, Daft by name: the names of the first SELECT go to all."""
    for union in tree.find_all(exp.SetOperation):
        sides = [side for side in _selects(union)]
        first, *others = [side.expressions for side in sides]
        if any(column.is_star for columns in (first, *others) for column in columns):
            continue
        if any(len(columns) != len(first) for columns in others):
            raise refuse("the SELECTs of a UNION must have the same number of columns")
        names = [_given_name(column) or _default_name(column, number) for number, column in enumerate(first, 1)]
        for side, columns in zip(sides[1:], others, strict=True):
            side.set("expressions", _renamed(columns, names))


def _renamed(columns: Iterable[exp.Expression], names: Iterable[str]) -> list[exp.Expression]:
    pairs = zip(columns, names, strict=True)
    return [exp.alias_(c.this if isinstance(c, exp.Alias) else c, name, quoted=True) for c, name in pairs]


def _selects(query: exp.Expression) -> Iterator[exp.Select]:
    if isinstance(query, exp.Select):
        yield query
    elif isinstance(query, exp.SetOperation):
        yield from _selects(query.this)
        yield from _selects(query.expression)
    elif isinstance(query, exp.Subquery):
        yield from _selects(query.this)
