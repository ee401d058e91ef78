"""Events and messages of limits."""

from datetime import datetime

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import limits_pb2 as pb
from services.gateway.limiting.domain import Rule
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.timestamps import to_wire

_SOURCE = "gateway"


def limit_to_wire(rule: Rule) -> pb.Limit:
    """A limit as callers and listeners see it."""
    terms = rule.terms
    return pb.Limit(
        limit=rule.limit,
        tenant=rule.tenant,
        level=pb.LimitLevel.Value(f"LIMIT_LEVEL_{terms.level.upper()}"),
        counts=pb.LimitCount.Value(f"LIMIT_COUNT_{terms.counts.upper()}"),
        rate=terms.rate,
        burst=terms.burst,
        in_project=terms.in_project,
        object=terms.object,
        imposed=rule.imposed,
        etag=str(rule.generation),
        create_time=to_wire(rule.create_time),
        update_time=to_wire(rule.update_time),
        delete_time=to_wire(rule.delete_time),
    )


def limit_changed(rule: Rule, now: datetime) -> Event:
    """A limit as it is from now on."""
    message = events.LimitChanged(limit=limit_to_wire(rule), generation=rule.generation)
    return Event.of(message, Scope(rule.tenant), "limits", rule.limit, _SOURCE, now)
