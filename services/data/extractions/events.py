"""The events of extractions."""

from aimass.v1.data_events_pb2 import ExtractionEnded
from services.data.extractions.domain import Extraction
from services.data.extractions.wire import extraction_to_wire
from services.kit.auth import Scope
from services.kit.bus import Event


def extraction_ended(scope: Scope, extraction: Extraction) -> Event:
    """A run with how it ended. It begins silently, so its end is its first generation."""
    message = ExtractionEnded(extraction=extraction_to_wire(extraction), generation=1)
    at = extraction.end_time or extraction.create_time
    return Event.of(message, scope, "extractions", extraction.extraction, "data", at)
