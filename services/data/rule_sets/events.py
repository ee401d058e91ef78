"""The events of rule sets."""

from aimass.v1.data_events_pb2 import RuleSetChanged
from services.data.rule_sets.domain import RuleSetView
from services.data.rule_sets.wire import rule_set_to_wire
from services.kit.auth import Scope
from services.kit.bus import Event


def rule_set_changed(scope: Scope, view: RuleSetView) -> Event:
    """A rule set with its full state and its newest version."""
    message = RuleSetChanged(rule_set=rule_set_to_wire(view), generation=view.rule_set.generation)
    return Event.of(message, scope, "rule_sets", view.rule_set.rule_set, "data", view.rule_set.update_time)
