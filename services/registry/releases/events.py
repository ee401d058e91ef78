"""The events of releases."""

from datetime import datetime

from aimass.v1.registry_events_pb2 import ReleaseChanged
from services.kit.auth import Scope
from services.kit.bus import Event
from services.registry.releases.domain import Release
from services.registry.releases.wire import release_to_wire


def changed(scope: Scope, release: Release, now: datetime) -> Event:
    """The full state of a release."""
    message = ReleaseChanged(release=release_to_wire(release), generation=release.generation)
    return Event.of(message, scope, "models", release.model, "registry", now)
