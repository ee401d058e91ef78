"""Records for tests."""

from typing import Any

from services.logs.domain import Record

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
