"""The events of rules."""

from aimass.v1.data_events_pb2 import RuleChanged
from services.data.rules.domain import RuleView
from services.data.rules.wire import rule_to_wire
from services.kit.auth import Scope
from services.kit.bus import Event


def rule_changed(scope: Scope, view: RuleView) -> Event:
    """A rule with its full state and its newest version."""
    message = RuleChanged(rule=rule_to_wire(view), generation=view.rule.generation)
    return Event.of(message, scope, "rules", view.rule.rule, "data", view.rule.update_time)
