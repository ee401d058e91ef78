"""The events of sources."""

from aimass.v1.data_events_pb2 import SourceChanged
from services.data.sources.domain import Source
from services.data.sources.wire import source_to_wire
from services.kit.auth import Scope
from services.kit.bus import Event


def source_changed(scope: Scope, source: Source) -> Event:
    """A source with its full state."""
    message = SourceChanged(source=source_to_wire(source), generation=source.generation)
    return Event.of(message, scope, "sources", source.source, "data", source.update_time)
