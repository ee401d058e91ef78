"""What is said of long work."""

from datetime import datetime

from aimass.v1.data_events_pb2 import Work, WorkEnded
from services.data.efforts.domain import Effort
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.timestamps import to_wire


def work_ended(scope: Scope, effort: Effort, now: datetime, reservation: str = "") -> Event:
    """It begins silently, so its end is its first generation."""
    work = Work(
        operation=effort.operation,
        kind=effort.kind,
        principal=effort.principal,
        cpu_milliseconds=effort.charged,
        end_time=to_wire(now),
        reservation=reservation,
    )
    return Event.of(WorkEnded(work=work, generation=1), scope, "work", effort.operation or reservation, "data", now)
