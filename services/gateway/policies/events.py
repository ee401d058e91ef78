"""Events of policies."""

from datetime import datetime

from aimass.v1 import gateway_events_pb2 as events
from services.gateway.policies.domain.rules import Active
from services.gateway.policies.wire import active_to_wire
from services.kit.auth import Scope
from services.kit.bus import Event

_SOURCE = "gateway"


def changed(active: Active, now: datetime) -> Event:
    """Another version is active from now on. Versions never change, so that its number says all of it."""
    message = events.PoliciesChanged(policies=active_to_wire(active), generation=active.generation)
    return Event.of(message, Scope(active.tenant), "policies", "active", _SOURCE, now)
