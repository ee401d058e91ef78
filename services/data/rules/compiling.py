"""Checks a rule against its source and brings it into the form that runs."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from services.data.reading import arrays, downloads, paths, select
from services.data.reading.connector_sql import SqlConnector
from services.data.reading.folders import Place
from services.data.reading.kinds import (
    Compiled,
    CompiledInner,
    Definition,
    FileFormat,
    FileRule,
    FilesSource,
    InnerRule,
    JsonRule,
    RegexRule,
    RuleColumn,
    RuleDefinition,
    SqlRule,
    SqlSource,
)
from services.data.rules.domain import misfit
from services.data.schema import Column, ColumnType, check_columns
from services.kit import patterns
from services.kit.errors import InvalidValue


def compile_rule(rule: RuleDefinition, source: Definition, place: Place) -> Compiled:
    """What runs. Opens a SQL source to know its columns.

    Raises sql_not_allowed, pattern_unsupported, or invalid_value for a rule that does not fit its source.
    """
    if reason := misfit(rule, source):
        raise InvalidValue(reason)
    if isinstance(rule, SqlRule):
        assert isinstance(source, SqlSource), "it fits"
        return with_downloads(_compile_sql(rule, source, place), rule)
    compiled = _compiled(rule)
    check_columns(Column(column.name, column.type) for column in compiled.columns)
    if isinstance(rule, JsonRule) and rule.documents:
        _check_documents(rule, source)
        compiled = replace(compiled, documents=rule.documents)
    return with_downloads(compiled, rule)


def _check_documents(rule: JsonRule, source: Definition) -> None:
    if not isinstance(source, FilesSource) or source.format is not FileFormat.DOCUMENT:
        raise InvalidValue("documents needs a source of files of format document")
    wanted = (rule.documents, ("digest",), ColumnType.STRING)
    if not any((column.name, paths.parse(column.source), column.type) == wanted for column in rule.columns):
        raise InvalidValue("documents must be a column of type string from $.digest")


def with_downloads(compiled: Compiled, rule: RuleDefinition) -> Compiled:
    """What a rule comes to, with the files that it downloads. Raises invalid_value for what cannot be downloaded."""
    if not rule.downloads:
        return compiled
    downloads.check(rule.downloads, compiled.schema)
    made = replace(compiled, downloads=rule.downloads)
    check_columns(made.schema)
    return made


def _compiled(rule: FileRule | JsonRule | RegexRule) -> Compiled:
    """With the columns of its inner rules behind its own."""
    inner = tuple(_compiled_inner(one, isinstance(rule, JsonRule)) for one in rule.inner)
    columns = (*rule.columns, *(column for one in inner for column in one.compiled.columns))
    match rule:
        case FileRule():
            return Compiled(columns, inner=inner)
        case JsonRule():
            steps = tuple(paths.parse(column.source) for column in rule.columns)
            sources = [*(column.source for column in rule.columns), *(one.source for one in inner)]
            arrays.check(sources, [*steps, *(one.path for one in inner)])
            return Compiled(columns, paths=steps, inner=inner, keep_empty=rule.keep_empty)
        case RegexRule(pattern, more_patterns=more):
            _check_groups(pattern, [*(column.source for column in rule.columns), *(one.source for one in inner)])
            for number, other in enumerate(more):
                _check_required(rule.columns, inner, patterns.groups(other), f"more_patterns[{number}]")
            return Compiled(columns, pattern=pattern, inner=inner, more_patterns=more)


def _check_required(
    columns: Sequence[RuleColumn], inner: Sequence[CompiledInner], known: Collection[str], pattern: str
) -> None:
    within = [one.source for one in inner if any(column.required for column in one.compiled.columns)]
    for source in [*(column.source for column in columns if column.required), *within]:
        if source not in known:
            raise InvalidValue(f"{pattern} has no group {source}, which a required column needs")


def _compiled_inner(inner: InnerRule, of_json: bool) -> CompiledInner:
    path = paths.parse(inner.source) if of_json else ()
    compiled = _compiled(inner.rule)
    if any(paths.EACH in step for step in (*compiled.paths, *(one.path for one in compiled.inner))):
        raise InvalidValue(f"the rule inside for {inner.source} has a path with [*]: it can have one row only")
    return CompiledInner(inner.source, path, compiled)


def _compile_sql(rule: SqlRule, source: SqlSource, place: Place) -> Compiled:
    table = SqlConnector(source)
    compiled = select.compile_select(rule, source, table.look(place))
    table.prepare(place, compiled)
    return compiled


def _check_groups(pattern: str, sources: Sequence[str]) -> None:
    known = patterns.groups(pattern)
    for source in sources:
        if source not in known:
            raise InvalidValue(f"the pattern has no group {source}: write (?P<{source}>...)")
