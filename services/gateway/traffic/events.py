"""Events of traffic."""

from datetime import datetime

from aimass.v1 import gateway_events_pb2 as pb
from services.kit.auth import Scope
from services.kit.bus import Event


def release_applied(scope: Scope, instance: str, model: str, generation: int, version: int, now: datetime) -> Event:
    """This gateway answers with this version from now on; 0: with none."""
    message = pb.ReleaseApplied(instance=instance, model=model, generation=generation, version=version)
    return Event.of(message, scope, "models", model, "gateway", now)
