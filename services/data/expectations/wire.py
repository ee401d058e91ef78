"""Expectations between the domain and the wire."""

from dataclasses import replace
from typing import Any

from aimass.v1 import expectations_pb2 as pb
from services.data.datasets.masking import NOTHING, Hidden, is_hidden
from services.data.expectations.domain import Action, Check, Expectation, Expectations, Kind
from services.kit.errors import InvalidValue, Violation
from services.kit.timestamps import to_wire


def expectations_from_wire(request: pb.SetExpectationsRequest) -> tuple[Expectation, ...]:
    """Raises invalid_value for a kind or an action that is not set."""
    return tuple(_from_wire(item, f"/expectations/{index}") for index, item in enumerate(request.expectations))


def _from_wire(item: pb.Expectation, at: str) -> Expectation:
    return Expectation(
        kind=_member(Kind, pb.ExpectationKind, item.kind, f"{at}/kind"),
        action=_member(Action, pb.ExpectationAction, item.action, f"{at}/action"),
        column=item.column,
        minimum=item.minimum,
        maximum=item.maximum,
        values=tuple(dict.fromkeys(item.values)),
        fraction=item.fraction,
    )


def _member(members: Any, enum: Any, value: int, at: str) -> Any:
    found = next((one for one in members if _value(enum, one) == value), None)
    if found is None:
        field = at.rpartition("/")[2]
        raise InvalidValue(f"{at[1:].replace('/', '.')} must be set", [Violation(at, f"must be a known {field}")])
    return found


def _value(enum: Any, member: Kind | Action) -> Any:
    return enum.Value(f"EXPECTATION_{type(member).__name__.upper()}_{member.name}")


def expectation_to_wire(item: Expectation, hidden: Hidden = NOTHING) -> pb.Expectation:
    """One expectation; of hidden columns without bounds and values."""
    if is_hidden(item.column, hidden):
        item = replace(item, minimum="", maximum="", values=())
    said = {name: getattr(item, name) for name in ("column", "minimum", "maximum", "values", "fraction")}
    kind, action = _value(pb.ExpectationKind, item.kind), _value(pb.ExpectationAction, item.action)
    return pb.Expectation(kind=kind, action=action, **said)


def expectations_to_wire(found: Expectations, hidden: Hidden = NOTHING) -> pb.DataSetExpectations:
    """All of a data set; their etag is their generation."""
    return pb.DataSetExpectations(
        data_set=found.data_set,
        expectations=[expectation_to_wire(item, hidden) for item in found.items],
        etag=str(found.generation),
        update_time=to_wire(found.update_time),
    )


def check_to_wire(found: Check, hidden: Hidden = NOTHING) -> pb.ExpectationCheck:
    """What came of them."""
    results = [
        pb.ExpectationResult(expectation=expectation_to_wire(r.expectation, hidden), failed=r.failed, found=r.found)
        for r in found.results
    ]
    action = _value(pb.ExpectationAction, found.action) if found.action else pb.EXPECTATION_ACTION_UNSPECIFIED
    return pb.ExpectationCheck(
        check=found.check,
        data_set=found.data_set,
        version=found.version,
        run=found.run,
        action=action,
        results=results,
        create_time=to_wire(found.create_time),
    )
