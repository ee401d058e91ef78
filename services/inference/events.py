"""Events of engines."""

from datetime import datetime

from aimass.v1.inference_events_pb2 import EngineChanged
from services.inference.domain.engines import Engine
from services.inference.wire import engine_to_wire
from services.kit.auth import Scope
from services.kit.bus import Event


def engine_changed(scope: Scope, engine: Engine, generation: int, now: datetime) -> Event:
    """The full state of a version on this instance, for a generation of its release."""
    message = EngineChanged(engine=engine_to_wire(engine), generation=generation)
    return Event.of(message, scope, "models", engine.model, "inference", now)
