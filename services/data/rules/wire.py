"""Rules between the domain and the wire."""

from collections.abc import Iterable
from typing import Any

from aimass.v1 import rules_pb2 as pb
from services.data.reading.kinds import RULES, RuleColumn, RuleDefinition, name_of
from services.data.rules.domain import Refused, RuleView, Trial
from services.data.structs import to_struct
from services.data.wire import column_type_from_wire, column_type_to_wire, fields_of, plain, schema_to_wire
from services.kit.errors import InvalidValue
from services.kit.timestamps import to_wire


def definition_of(definition: pb.RuleDefinition) -> RuleDefinition:
    """What a request says. Raises invalid_value when it says nothing."""
    kind = definition.WhichOneof("kind")
    if kind is None:
        *others, last = RULES
        raise InvalidValue(f"the definition must be {', '.join(others)} or {last}")
    said = getattr(definition, kind)
    return RULES[kind](**plain(said) | {"columns": _columns(said.columns)})


def _columns(columns: Iterable[pb.RuleColumn]) -> tuple[RuleColumn, ...]:
    return tuple(
        RuleColumn(
            column.name, getattr(column, "from") or column.name, column_type_from_wire(column.type), column.required
        )
        for column in columns
    )


def definition_to_wire(definition: RuleDefinition) -> pb.RuleDefinition:
    """As it was said."""
    kind = name_of(definition)
    said = fields_of(definition, pb.RuleDefinition.DESCRIPTOR.fields_by_name[kind].message_type)
    said["columns"] = [_column_to_wire(column) for column in definition.columns]
    made: Any = {kind: said}
    return pb.RuleDefinition(**made)


def _column_to_wire(column: RuleColumn) -> pb.RuleColumn:
    message = pb.RuleColumn(name=column.name, type=column_type_to_wire(column.type), required=column.required)
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
    )


def refused_to_wire(refused: Refused) -> pb.RefusedRecord:
    """A record that a rule refuses."""
    return pb.RefusedRecord(record=refused.record, reason=refused.reason)
