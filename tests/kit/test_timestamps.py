import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.kit.timestamps import from_wire, to_wire, uuid7


@pytest.mark.parametrize("at", [datetime(2026, 1, 1, tzinfo=UTC), datetime(1999, 12, 31, 23, 59, 59, 5, tzinfo=UTC)])
def test_times_go_to_the_wire_and_back(at: datetime) -> None:
    assert from_wire(to_wire(at)) == at


def test_a_time_of_another_zone_comes_back_in_utc() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))

    assert from_wire(to_wire(noon)) == datetime(2026, 1, 1, 10, tzinfo=UTC)


def test_no_time_stays_no_time() -> None:
    assert to_wire(None) is None
    assert from_wire(None) is None


def test_ids_are_uuids_of_version_7() -> None:
    made = uuid.UUID(uuid7())

    assert made.version == 7
    assert made.variant == uuid.RFC_4122


def test_ids_say_when_they_were_made() -> None:
    before = time.time_ns() // 1_000_000
    millis = uuid.UUID(uuid7()).int >> 80

    assert before <= millis <= time.time_ns() // 1_000_000 + 1


def test_ids_sort_in_the_order_in_which_they_were_made() -> None:
    made = [uuid7() for _ in range(20_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_threads_do_not_make_the_same_id() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = [one for many in threads.map(lambda _: [uuid7() for _ in range(2000)], range(8)) for one in many]

    assert len(set(made)) == len(made)
