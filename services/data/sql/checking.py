"""Parses SQL and refuses what the grammar does not have."""

import re
from collections.abc import Collection, Iterator
from typing import Any

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

from services.data.sql import LONGEST, grammar, nulls, parsing, refuse

_OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
_CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)


def parse(sql: str, dialect: str | type[Dialect]) -> exp.Expression:
    """One statement or expression within the limits; its nodes are not checked yet. Raises sql_not_allowed."""
    if len(sql) > LONGEST:
        raise refuse(f"the text has more than {LONGEST} characters")
    try:
        _limit_tokens(sqlglot.tokenize(sql, read=dialect))
        found = parsing.statements(sql, dialect)
    except SqlglotError as error:
        raise refuse(f"the text is not SQL that can be read{_place(error)}") from None
    except (RecursionError, ValueError, TypeError, AttributeError, KeyError, IndexError):
        # The parser fails on some texts that are no queries.
        raise refuse("the text is not SQL that can be read") from None
    if len(found) != 1 or not isinstance(found[0], exp.Expression):
        raise refuse("exactly one statement is allowed")
    return found[0]


def _limit_tokens(tokens: list[Any]) -> None:
    if len(tokens) > grammar.TOKENS:
        raise refuse(f"the text has more than {grammar.TOKENS} words")
    depth = 0
    for token in tokens:
        depth += (token.token_type in _OPENING) - (token.token_type in _CLOSING)
        if depth > grammar.BRACKETS:
            raise refuse(f"brackets are nested more than {grammar.BRACKETS} deep")


def _place(error: SqlglotError) -> str:
    first: dict[str, Any] = next(iter(getattr(error, "errors", ())), {})
    line, column, near = first.get("line"), first.get("col"), str(first.get("highlight") or "")[:40]
    return f" near {near!r} (line {line}, column {column})" if line else ""


def check(tree: exp.Expression, kinds: Collection[type[exp.Expression]], dialect: str) -> None:
    """Raises sql_not_allowed for a node that the grammar does not have, and for too many nodes."""
    counts: dict[type, int] = {}
    for number, (node, depth) in enumerate(_nodes(tree)):
        if number > grammar.NODES or depth > grammar.DEPTH:
            raise refuse("the query is too large or nested too deep")
        counts[type(node)] = counts.get(type(node), 0) + 1
        _check_node(node, kinds, dialect)
    if counts.get(exp.Join, 0) > grammar.JOINED:
        raise refuse(f"more than {grammar.JOINED} joins are not allowed")
    if counts.get(exp.Select, 0) > grammar.SELECTS:
        raise refuse(f"more than {grammar.SELECTS} SELECTs are not allowed")
    if dialect == "datafusion":
        nulls.check(tree)


def _nodes(tree: exp.Expression) -> Iterator[tuple[exp.Expression, int]]:
    """Every node with its depth, without recursion."""
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        waiting += [(child, depth + 1) for child in node.iter_expressions()]


def _check_node(node: exp.Expression, kinds: Collection[type[exp.Expression]], dialect: str) -> None:
    if isinstance(node, exp.Anonymous):
        name = str(node.this).lower()
        if name not in grammar.NAMED[dialect]:
            raise refuse(f"the function {name[:60]} is not allowed")
        return
    if isinstance(node, exp.Func) and node.sql_name().lower() in grammar.NAMED[dialect] and set(node.args) <= {"this"}:
        return
    if type(node) not in kinds:
        raise refuse(f"{_name(node)} is not allowed")
    allowed = grammar.PARTS[type(node)]
    for part, value in node.args.items():
        if part not in allowed and not grammar.empty(value):
            raise refuse(f"{_name(node)} with {part.strip('_')} is not allowed")
    if rule := _RULES.get(type(node)):
        rule(node)


def _name(node: exp.Expression) -> str:
    if isinstance(node, exp.Func):
        return f"the function {node.sql_name().lower()}"
    return type(node).__name__.upper()


def _check_table(node: exp.Expression) -> None:
    if not isinstance(node.this, exp.Identifier):
        raise refuse(f"{_name(node.this)} is not allowed as a table")


def _check_join(node: exp.Expression) -> None:
    if (node.args.get("side") or "", node.args.get("kind") or "") not in grammar.JOINS:
        raise refuse(f"a {node.args.get('side') or ''}{node.args.get('kind') or ''} join is not allowed".lower())
    if not node.args.get("on") and not node.args.get("using"):
        raise refuse("a join needs ON or USING")


def _check_type(node: exp.Expression) -> None:
    if node.this not in grammar.TYPES:
        raise refuse(f"the type {str(node.sql())[:60].lower()} is not allowed")


def _check_unit(node: exp.Expression) -> None:
    unit = node.args.get("unit") or node.this
    if isinstance(unit, exp.Expression) and str(unit.name).upper().rstrip("S") not in grammar.UNITS:
        raise refuse(f"the unit {str(unit.name)[:40]} is not allowed")


def _check_word(node: exp.Expression) -> None:
    # The word is written out unquoted, so it must be a known one.
    if str(node.this).upper().rstrip("S") not in grammar.UNITS:
        raise refuse(f"the word {str(node.this)[:40]} is not allowed")


def _check_part(node: exp.Expression) -> None:
    # The part is written into a string literal, so it must be a known one.
    part = node.this
    if not isinstance(part, exp.Var | exp.Literal) or str(part.name).upper().rstrip("S") not in grammar.UNITS:
        raise refuse(f"the part {str(part.name)[:40]} of a time is not allowed")


def _check_interval(node: exp.Expression) -> None:
    value, unit = node.this, node.args.get("unit")
    number = str(value.this if isinstance(value, exp.Literal) else "")
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", number) or not isinstance(unit, exp.Var | None):
        raise refuse("an interval is a whole number and one unit: INTERVAL '2 hours'")


def _check_logarithm(node: exp.Expression) -> None:
    if not node.expression or not isinstance(node.this, exp.Literal) or node.this.name not in ("2", "10"):
        raise refuse("a logarithm is ln, log2 or log10")


def _check_limit(node: exp.Expression) -> None:
    if not isinstance(node.expression, exp.Literal) or not str(node.expression.this).isdecimal():
        raise refuse(f"{_name(node)} needs a whole number")


_RULES = {
    exp.Table: _check_table,
    exp.Join: _check_join,
    exp.DataType: _check_type,
    exp.Var: _check_word,
    exp.Extract: _check_part,
    exp.Interval: _check_interval,
    exp.Log: _check_logarithm,
    exp.DateTrunc: _check_unit,
    exp.TimestampTrunc: _check_unit,
    exp.Limit: _check_limit,
    exp.Offset: _check_limit,
}
