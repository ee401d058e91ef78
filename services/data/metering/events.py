"""The events of metering."""

from datetime import datetime

from aimass.v1.data_events_pb2 import Work, WorkEnded
from services.data.metering.domain import CpuUsage
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.timestamps import to_wire


def work_ended(scope: Scope, usage: CpuUsage, now: datetime, reservation: str = "") -> Event:
    """It begins silently, so its end is its first generation."""
    work = Work(
        operation=usage.operation,
        kind=usage.kind,
        principal=usage.principal,
        cpu_milliseconds=usage.charged,
        end_time=to_wire(now),
        reservation=reservation,
    )
    return Event.of(WorkEnded(work=work, generation=1), scope, "work", usage.operation or reservation, "data", now)
