"""The events of versions."""

from collections.abc import Iterable
from datetime import datetime

from aimass.v1.registry_events_pb2 import ModelVersionChanged
from services.kit.auth import Scope
from services.kit.bus import Event
from services.registry.models.domain import Version
from services.registry.models.wire import version_to_wire


def changed(scope: Scope, versions: Iterable[Version], now: datetime) -> list[Event]:
    """One event per version, with its full state."""
    return [
        Event.of(
            ModelVersionChanged(version=version_to_wire(version), generation=version.generation),
            scope,
            "models",
            version.model,
            "registry",
            now,
        )
        for version in versions
    ]
