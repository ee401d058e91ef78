"""The events of storage."""

from datetime import datetime

from aimass.v1.data_events_pb2 import DataStored
from aimass.v1.storage_pb2 import KeptBytes
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.timestamps import to_wire


def data_stored(hour: datetime, what: str, scope: Scope, size: int) -> Event:
    """A project keeps so many bytes in an hour."""
    kept = KeptBytes(what=what, bytes=size, hour=to_wire(hour))
    message = DataStored(kept=kept, generation=int(hour.timestamp()) // 3600)
    return Event.of(message, scope, "storage", what, "data", hour)
