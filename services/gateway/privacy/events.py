"""Events and messages of filters of personal data."""

from datetime import datetime

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import privacy_pb2 as pb
from services.gateway.privacy.domain import PrivacyFilter
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.timestamps import to_wire

_SOURCE = "gateway"


def filter_to_wire(found: PrivacyFilter) -> pb.PrivacyFilter:
    """A filter as callers and listeners see it."""
    return pb.PrivacyFilter(
        privacy_filter=found.privacy_filter,
        description=found.description,
        methods=found.methods,
        models=found.models,
        streams=found.streams,
        answers=found.answers,
        rules=[pb.PrivacyRule(detector=r.detector, action=r.action, pattern=r.pattern) for r in found.rules],  # type: ignore[arg-type]
        etag=str(found.generation),
        create_time=to_wire(found.create_time),
        update_time=to_wire(found.update_time),
        delete_time=to_wire(found.delete_time),
    )


def filter_changed(found: PrivacyFilter, now: datetime) -> Event:
    """A filter as it is from now on."""
    message = events.PrivacyFilterChanged(privacy_filter=filter_to_wire(found), generation=found.generation)
    return Event.of(message, Scope(found.tenant), "privacy-filters", found.privacy_filter, _SOURCE, now)
