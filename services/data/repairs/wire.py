"""Repairs between the domain and the wire."""

from aimass.v1 import repairs_pb2 as pb
from services.data.repairs.domain import LIMIT, Health, Policy, Repair
from services.kit.errors import InvalidValue, Violation
from services.kit.timestamps import to_wire


def health_to_wire(health: Health) -> pb.RuleHealth:
    """How a version of a rule does in use."""
    refusals = health.refusals
    return pb.RuleHealth(
        rule=health.rule,
        version=health.version,
        records=refusals.total,
        refused=refusals.bad,
        evidence=refusals.evidence,
        limit=LIMIT,
        column_limit=health.column_limit,
        columns=[
            pb.ColumnHealth(
                column=one.column,
                rows=one.share.total,
                missing=one.share.bad,
                evidence=one.share.evidence,
                drifted=one.column in health.moved,
            )
            for one in health.columns
        ],
        drifted=health.drifted,
        policy=pb.RepairPolicy.Value(f"REPAIR_POLICY_{health.policy.name}"),
        update_time=to_wire(health.update_time),
    )


def policy_of(policy: pb.RepairPolicy.ValueType) -> Policy:
    """Raises invalid_value for one that is not set or not known."""
    name = pb.RepairPolicy.Name(policy) if policy in pb.RepairPolicy.values() else ""
    member = Policy.__members__.get(name.removeprefix("REPAIR_POLICY_"))
    if member is None:
        raise InvalidValue("the policy must be set", [Violation("/policy", "must be set")])
    return member


def repair_to_wire(repair: Repair) -> pb.Repair:
    """A search for a repair as it stands."""
    message = pb.Repair(
        repair=repair.repair,
        rule=repair.rule,
        version=repair.version,
        state=pb.RepairState.Value(f"REPAIR_STATE_{repair.state.name}"),
        repaired_version=repair.repaired_version,
        extraction=repair.extraction,
        records=repair.records,
        taken=repair.taken,
        tested=repair.tested,
        right=repair.right,
        reason=repair.reason,
        operation=repair.operation,
        create_time=to_wire(repair.create_time),
        end_time=to_wire(repair.end_time),
    )
    for column in repair.columns:
        made = message.columns.add(column=column.column, confidence=column.confidence)
        setattr(made, "from", column.source)
    return message
