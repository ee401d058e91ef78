"""Rules between the domain and the wire."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from aimass.v1 import rules_pb2 as pb
from services.data.reading.downloads import Download
from services.data.reading.kinds import (
    RULES,
    InnerRule,
    JsonRule,
    RegexRule,
    RuleColumn,
    RuleDefinition,
    SqlRule,
    name_of,
)
from services.data.rules.domain import ColumnTrial, Refused, RuleView, Trial
from services.data.structs import to_struct
from services.data.wire import column_type_from_wire, column_type_to_wire, fields_of, plain, schema_to_wire
from services.kit.errors import InvalidValue
from services.kit.timestamps import to_wire

_DEEPEST = 4  # rules inside each other


def definition_of(definition: pb.RuleDefinition) -> RuleDefinition:
    """What a request says. Raises invalid_value when it says nothing."""
    kind = definition.WhichOneof("kind")
    if kind is None:
        *others, last = RULES
        raise InvalidValue(f"the definition must be {', '.join(others)} or {last}")
    downloads = tuple(Download.of(plain(download)) for download in definition.downloads)
    rule = replace(_rule_of(kind, getattr(definition, kind), 1), downloads=downloads)
    if not definition.documents:
        return rule
    if not isinstance(rule, JsonRule):
        raise InvalidValue("documents is for json rules")
    return replace(rule, documents=definition.documents)


def _rule_of(kind: str, said: Any, level: int) -> RuleDefinition:
    values = plain(said) | {"columns": _columns(said.columns)}
    if "inner" in values:
        values["inner"] = tuple(_inner_of(inner, level + 1) for inner in said.inner)
    if "more_patterns" in values:
        values["more_patterns"] = tuple(said.more_patterns)
    return RULES[kind](**values)


def _inner_of(inner: pb.InnerRule, level: int) -> InnerRule:
    kind = inner.WhichOneof("kind")
    if kind is None:
        raise InvalidValue("the inner rule must be json or regex")
    if level > _DEEPEST:
        raise InvalidValue(f"more than {_DEEPEST} rules are inside each other")
    rule = _rule_of(kind, getattr(inner, kind), level)
    assert isinstance(rule, JsonRule | RegexRule), "the contract has no others"
    return InnerRule(getattr(inner, "from"), rule)


def _columns(columns: Iterable[pb.RuleColumn]) -> tuple[RuleColumn, ...]:
    return tuple(
        RuleColumn(
            column.name,
            getattr(column, "from") or column.name,
            column_type_from_wire(column.type),
            column.required,
            column.variant,
        )
        for column in columns
    )


def definition_to_wire(definition: RuleDefinition) -> pb.RuleDefinition:
    """As it was said."""
    made: Any = _said(definition)
    downloads = map(download_to_wire, definition.downloads)
    documents = definition.documents if isinstance(definition, JsonRule) else ""
    return pb.RuleDefinition(**made, downloads=downloads, documents=documents)


def download_to_wire(download: Download) -> pb.Download:
    """As it was said."""
    return pb.Download(**fields_of(download, pb.Download.DESCRIPTOR))


def _said(definition: RuleDefinition) -> dict[str, Any]:
    """The kind of a rule with what it says."""
    kind = name_of(definition)
    message = pb.RuleDefinition.DESCRIPTOR.fields_by_name[kind].message_type
    said = fields_of(definition, message, beside=("downloads", "documents"))
    said["columns"] = [_column_to_wire(column) for column in definition.columns]
    if not isinstance(definition, SqlRule):
        said["inner"] = [pb.InnerRule(**{"from": one.source, **_said(one.rule)}) for one in definition.inner]
    return {kind: said}


def _column_to_wire(column: RuleColumn) -> pb.RuleColumn:
    kind = column_type_to_wire(column.type)
    message = pb.RuleColumn(name=column.name, type=kind, required=column.required, variant=column.variant)
    if column.source != column.name:
        setattr(message, "from", column.source)
    return message


def rule_to_wire(view: RuleView) -> pb.Rule:
    """A rule with one of its versions."""
    rule, version = view.rule, view.version
    return pb.Rule(
        rule=rule.rule,
        source=rule.source,
        data_set=rule.data_set,
        version=version.version,
        definition=definition_to_wire(version.definition),
        latest_version=rule.latest_version,
        active_version=rule.active_version,
        etag=str(rule.generation),
        create_time=to_wire(rule.create_time),
        update_time=to_wire(rule.update_time),
        delete_time=to_wire(rule.delete_time),
        rule_set=rule.rule_set,
    )


def trial_to_wire(trial: Trial) -> pb.TestRuleResponse:
    """What a version made of a sample."""
    return pb.TestRuleResponse(
        tried=trial.tried,
        accepted=trial.accepted,
        coverage=trial.coverage,
        rows=[to_struct(row) for row in trial.rows],
        refused=map(refused_to_wire, trial.refused),
        schema=schema_to_wire(trial.compiled.schema),
        columns=[_column_trial_to_wire(column, trial.looked) for column in trial.columns],
    )


def refused_to_wire(refused: Refused) -> pb.RefusedRecord:
    """A record that a rule refuses."""
    return pb.RefusedRecord(record=refused.record, reason=refused.reason)


def _column_trial_to_wire(column: ColumnTrial, looked: int) -> pb.ColumnTrial:
    return pb.ColumnTrial(**vars(column), coverage=column.values / looked if looked else 0.0)
