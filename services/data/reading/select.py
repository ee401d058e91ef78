"""SQL rules: a SELECT on the source's table is parsed, checked against what is allowed, and written anew.

What is not on the list is refused. The text that runs is the one that sqlglot writes from the checked tree, with the
page's condition on the cursor added to the tree, so nothing that was not looked at reaches the database.
"""

from collections.abc import Sequence
from typing import Any

from services.data.reading import flavours
from services.data.reading.flavours import Flavour
from services.data.reading.kinds import Compiled, RuleColumn, SqlRule, SqlSource
from services.data.reading.sqlite import Table
from services.data.schema import Column, ColumnType, check_columns, quoted
from services.data.sql import parsing
from services.kit.errors import Code, Failure, InvalidValue

_PRESENT = "the present time is not allowed: a rule gives the same rows whenever it runs"
_NODES = 2000
_DEPTH = 60
_CLAUSES = ("with_", "with", "joins", "group", "having", "distinct", "order", "limit", "offset", "windows", "hint")
# Why a statement is only run by its database.
NOT_PLAIN = (
    "rows of what landed are made without the database, so a sql rule of a landed PostgreSQL source selects columns and"
    " nothing else: no expressions, no WHERE"
)
_PERCENTS = 4  # in one LIKE, whose time grows with a power of them


def compile_select(rule: SqlRule, source: SqlSource, table: Table) -> Compiled:
    """A rule for a table. Raises sql_not_allowed for what is no plain SELECT on it, invalid_value for its columns."""
    kind = flavours.flavour(source)
    tree = _parse(rule.sql, kind)
    _check(tree, source, kind)
    selected = _selected(tree, table, kind)
    columns, cursor = _columns(rule, selected, source, table)
    return Compiled(columns, _paged(tree, selected, source, table, kind), cursor)


def _parse(sql: str, kind: Flavour) -> Any:
    found = parsing.parse(sql, kind.dialect)
    if len(found) != 1:
        raise _refusal("there must be exactly one statement")
    return found[0]


def _refusal(text: str) -> Failure:
    return Failure(Code.SQL_NOT_ALLOWED, text)


def _check(tree: Any, source: SqlSource, flavour: Flavour) -> None:
    """Every node and every argument is one that a rule may use."""
    from sqlglot import exp

    if type(tree) is not exp.Select:
        raise _refusal(f"{tree.key} is not allowed: a rule is one SELECT")
    for clause in _CLAUSES:
        if tree.args.get(clause):
            raise _refusal(f"{clause.strip('_')} is not allowed: a rule reads rows one by one")
    tables = list(tree.find_all(exp.Table))
    if len(tables) != 1 or not isinstance(tables[0].this, exp.Identifier) or tables[0].args.get("db"):
        raise _refusal(f"the statement must read {source.table} and nothing else")
    if tables[0].name.lower() != source.relation.lower():
        raise _refusal(f"the statement reads {tables[0].name}, which is not the source's table {source.table}")
    for count, node in enumerate(tree.walk()):
        if count > _NODES or node.depth > _DEPTH:
            raise _refusal("the statement is too large")
        _check_node(node, tree, exp, flavour)


def _check_node(node: Any, tree: Any, exp: Any, flavour: Flavour) -> None:
    kind = type(node).__name__
    if isinstance(node, exp.Select) and node is not tree:
        raise _refusal("a select inside a select is not allowed")
    if isinstance(node, exp.Anonymous) and node.name.lower() not in flavour.calls:
        raise _refusal(f"the function {node.name.lower()} is not allowed")
    if kind not in flavour.nodes:
        raise _refusal(f"{node.key} is not allowed")
    if isinstance(node, exp.In) and node.args.get("field"):
        raise _refusal("IN takes a list in parentheses")  # without them, SQLite reads the name as a table's
    if flavour.strict and isinstance(node, exp.DataType) and node.this.name not in flavour.casts:
        raise _refusal(f"a cast to {node.sql(flavour.dialect)[:40].lower()} is not allowed")
    if flavour.strict and isinstance(node, exp.Literal) and node.name.strip().lower() in flavour.present:
        raise _refusal(_PRESENT)
    if isinstance(node, exp.Like | exp.ILike):
        pattern = node.expression
        if not isinstance(pattern, exp.Literal) or pattern.name.count("%") > _PERCENTS:
            raise _refusal(f"LIKE takes a text with at most {_PERCENTS} percent signs")
    if (kind in flavour.times or node.name.lower() in flavour.times) and isinstance(node, exp.Func):
        _check_time(node, exp)


def _check_time(node: Any, exp: Any) -> None:
    """A rule gives the same rows whenever it runs, so it does not know what time it is."""
    given = [part for part in node.walk() if isinstance(part, exp.Literal | exp.Column)]
    if not given or any(part.name.lower() == "now" for part in given):
        raise _refusal(_PRESENT)


def _selected(tree: Any, table: Table, kind: Flavour) -> list[tuple[str, Any]]:
    """The columns that the statement returns, a star written out: name and expression."""
    from sqlglot import exp

    known = [name for name, _ in table.columns]
    found: list[tuple[str, Any]] = []
    for item in tree.expressions:
        if isinstance(item, exp.Star):
            found += [(name, exp.column(exp.to_identifier(name, quoted=True))) for name in known]
            continue
        name, expression = item.alias_or_name, item.unalias()
        if not name:
            raise InvalidValue(f"{item.sql(kind.dialect)[:80]} needs a name: write AS")
        found.append((name, expression))
    lower = {name.lower(): name for name in known}
    for column in tree.find_all(exp.Column):
        if column.name.lower() not in lower:
            raise InvalidValue(f"the table has no column {column.name}")
        # SQLite reads a quoted name that is no column as a text; here it is always the column.
        column.set("this", exp.to_identifier(lower[column.name.lower()], quoted=True))
        column.set("table", None)
    return found


def _type(name: str, expression: Any, table: Table) -> ColumnType:
    """The type of a column that the rule does not give one."""
    from sqlglot import exp

    if isinstance(expression, exp.Column):
        declared = dict(table.columns)[expression.name]
        if declared is None:
            raise InvalidValue(f"the table gives the column {name} no type: say its type in columns")
        return declared
    casts = flavours.POSTGRES.casts
    kind = casts.get(expression.to.this.name) if isinstance(expression, exp.Cast) else None
    if kind is None:
        raise InvalidValue(f"the column {name} is computed: say its type in columns")
    return kind


def _columns(
    rule: SqlRule, selected: Sequence[tuple[str, Any]], source: SqlSource, table: Table
) -> tuple[tuple[RuleColumn, ...], int]:
    said = {column.name: column for column in rule.columns}
    names = [name for name, _ in selected]
    if unknown := sorted(said.keys() - set(names)):
        raise InvalidValue(f"the statement returns no column {unknown[0]}")
    if wrong := next((column for column in rule.columns if column.source != column.name), None):
        raise InvalidValue(f"the column {wrong.name} cannot be taken from {wrong.source}: write AS in the statement")
    columns = tuple(
        said.get(name) or RuleColumn(name, name, _type(name, expression, table)) for name, expression in selected
    )
    check_columns(Column(column.name, column.type) for column in columns)
    places = [place for place, (_, expression) in enumerate(selected) if _is_cursor(expression, source)]
    if not places:
        raise InvalidValue(f"the statement must select the cursor column {source.cursor}")
    return columns, places[0]


def plain(statement: str, source: SqlSource, columns: int) -> tuple[str, ...] | None:
    """The columns of the table that a compiled statement selects; None if it does more than to select columns."""
    from sqlglot import exp

    tree = parsing.statements(statement, flavours.flavour(source).dialect)[0]
    found = [item.unalias() for item in tree.expressions[:columns]]
    where = tree.args["where"].this.unnest()
    if where != exp.true() or not all(isinstance(item, exp.Column) for item in found):
        return None
    return tuple(item.name for item in found)


def _is_cursor(expression: Any, source: SqlSource) -> bool:
    from sqlglot import exp

    return isinstance(expression, exp.Column) and expression.name == source.cursor


def _paged(tree: Any, selected: Sequence[tuple[str, Any]], source: SqlSource, table: Table, kind: Flavour) -> str:
    """The statement that runs, as the database's `page` completes it."""
    where = tree.args.get("where")
    items = ", ".join(f"{_text(expression, kind)} AS {quoted(name)}" for name, expression in selected)
    return kind.paged(source, table, items, _text(where.this, kind) if where else "")


def _text(expression: Any, kind: Flavour) -> str:
    written: str = expression.sql(dialect=kind.dialect, identify=True, comments=False)
    return written
