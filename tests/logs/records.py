"""Records for tests."""

import struct
from typing import Any
from uuid import UUID

from services.kit.telemetry.columns import Columns
from services.logs.domain import Record
from services.logs.tables import Table

NOON = 1_763_700_000_000_000_000


def record(number: int = 0, **values: Any) -> Record:
    """The record `r<number>` of acme, a millisecond after the one before."""
    given: dict[str, Any] = {
        "tenant": "acme",
        "project": "default",
        "kind": "log",
        "time_ns": NOON + number * 1_000_000,
    }
    return Record(record=f"r{number}", **given | values)


def table(count: int, number: int = 0, **values: Any) -> Table:
    """Predictions from `p<number>` on: a microsecond apart from noon on, each a millisecond slower."""
    places = range(number, number + count)
    about: dict[str, Any] = {"kind": "prediction", "service": "gateway", "model": "late", "version": 3, "status": "200"}
    about |= {"attributes": {"principal": "key:k", "rows": 1}, "text": "prediction of late version 3 200"}
    columns = Columns(
        b"".join(UUID(request_id(place)).bytes for place in places),
        b"".join(place.to_bytes(8, "big") for place in places),
        [NOON + place * 1_000 for place in places],
        [float(place) for place in places],
        [1] * count,
        [struct.pack("<d", place / 100) for place in places],
    )
    return Table(record(0, **about | values)._replace(record="p", time_ns=0), number, columns)


def request_id(number: int) -> str:
    """That of a prediction of `table`."""
    return f"0192ab00-{number:04x}-7000-8000-{number:012x}"
