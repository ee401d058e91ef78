"""The events of artifacts."""

from datetime import datetime

from aimass.v1.registry_events_pb2 import ArtifactsStored
from aimass.v1.storage_pb2 import KeptBytes
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.timestamps import to_wire


def artifacts_stored(hour: datetime, scope: Scope, size: int) -> Event:
    """A project keeps so many bytes in an hour."""
    kept = KeptBytes(what="artifacts", bytes=size, hour=to_wire(hour))
    message = ArtifactsStored(kept=kept, generation=int(hour.timestamp()) // 3600)
    return Event.of(message, scope, "storage", kept.what, "registry", hour)
