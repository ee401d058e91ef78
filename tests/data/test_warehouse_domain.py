"""Which landed records a run reads again."""

from datetime import UTC, datetime, timedelta

import pytest

from services.data.warehouse.domain import Landing, Position, Range, Wanted, check_wanted, chosen
from services.kit.errors import FailedPrecondition, InvalidValue

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LANDINGS = tuple(
    Landing("s", version, f"run-{version}", first, last, NOON + timedelta(hours=version))
    for version, first, last in ((1, 1, 10), (2, 11, 11), (5, 12, 30))
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), Range(0, 30)),
        (Wanted(first_version=2), Range(10, 30)),
        (Wanted(first_version=3), Range(11, 30)),
        (Wanted(last_version=4), Range(0, 11)),
        (Wanted(2, 2), Range(10, 11)),
        (Wanted(first_time=NOON + timedelta(hours=2)), Range(10, 30)),
        (Wanted(last_time=NOON + timedelta(hours=2)), Range(0, 11)),
        (Wanted(first_version=2, last_time=NOON + timedelta(hours=3)), Range(10, 11)),
    ],
)
def test_versions_and_times_choose_whole_landings(wanted: Wanted, found: Range) -> None:
    check_wanted(wanted)
    assert chosen(LANDINGS, wanted, "s") == found


@pytest.mark.parametrize("wanted", [Wanted(first_version=6), Wanted(3, 4), Wanted(last_time=NOON)])
def test_a_choice_of_nothing_is_refused(wanted: Wanted) -> None:
    with pytest.raises(FailedPrecondition, match="nothing of s has landed in these versions and times"):
        chosen(LANDINGS, wanted, "s")


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (Wanted(last_version=-1), "/landed/last_version"),
        (Wanted(2, 1), "/landed/first_version"),
        (Wanted(first_time=NOON, last_time=NOON - timedelta(seconds=1)), "/landed/first_time"),
    ],
)
def test_a_range_that_cannot_be_is_refused_with_its_place(wanted: Wanted, field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_wanted(wanted)
    assert caught.value.violations[0].pointer == field


def test_a_cursor_belongs_to_its_place() -> None:
    position = Position(3, "files", {"files": [1]})
    assert (position.cursor_in("files"), position.cursor_in("elsewhere")) == ({"files": [1]}, {})
