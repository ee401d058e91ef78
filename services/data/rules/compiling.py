"""Checks a rule against its source and brings it into the form that runs."""

from services.data.reading import paths, select
from services.data.reading.connector_sql import SqlConnector
from services.data.reading.folders import Place
from services.data.reading.kinds import (
    Compiled,
    Definition,
    FileRule,
    JsonRule,
    RegexRule,
    RuleColumn,
    RuleDefinition,
    SqlRule,
    SqlSource,
)
from services.data.rules.domain import misfit
from services.data.schema import Column, check_columns
from services.kit import patterns
from services.kit.errors import InvalidValue


def compile_rule(rule: RuleDefinition, source: Definition, place: Place) -> Compiled:
    """What runs. Opens a SQL source to know its columns.

    Raises sql_not_allowed, pattern_unsupported, or invalid_value for a rule that does not fit its source.
    """
    if reason := misfit(rule, source):
        raise InvalidValue(reason)
    if not isinstance(rule, SqlRule):
        check_columns(Column(column.name, column.type) for column in rule.columns)
    match rule:
        case SqlRule():
            assert isinstance(source, SqlSource), "it fits"
            return _compile_sql(rule, source, place)
        case FileRule(columns):
            return Compiled(columns)
        case JsonRule(columns):
            return Compiled(columns, paths=tuple(paths.parse(column.source) for column in columns))
        case RegexRule(pattern, columns):
            return _compile_regex(pattern, columns)


def _compile_sql(rule: SqlRule, source: SqlSource, place: Place) -> Compiled:
    table = SqlConnector(source)
    compiled = select.compile_select(rule, source, table.look(place))
    table.prepare(place, compiled)
    return compiled


def _compile_regex(pattern: str, columns: tuple[RuleColumn, ...]) -> Compiled:
    known = patterns.groups(pattern)
    for column in columns:
        if column.source not in known:
            raise InvalidValue(f"the pattern has no group {column.source}: write (?P<{column.source}>...)")
    return Compiled(columns, pattern=pattern)
