"""Every change of a resource is a generation, and what is deleted can be brought back."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from services.kit.errors import Failure
from services.kit.resources import changed, deleted, undeleted

NOW, LATER = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Rule:
    data_set: str = "r"
    update_time: datetime = NOW
    delete_time: datetime | None = None
    generation: int = 1


RULE = Rule()


def test_a_change_says_when_it_was_and_counts() -> None:
    after = changed(RULE, LATER, data_set="other")

    assert (after.data_set, after.update_time, after.generation, RULE.generation) == ("other", LATER, 2, 1)


def test_what_is_deleted_can_be_brought_back() -> None:
    gone = deleted(RULE, "r", "1", LATER)
    back = undeleted(gone, LATER)

    assert (gone.delete_time, gone.generation, back.delete_time, back.generation) == (LATER, 2, None, 3)


def test_a_second_deletion_and_bringing_back_what_is_there_change_nothing() -> None:
    gone = deleted(RULE, "r", "", LATER)

    assert deleted(gone, "r", "1", LATER) is gone
    assert undeleted(RULE, LATER) is RULE


def test_a_deletion_by_who_saw_another_generation_is_refused() -> None:
    with pytest.raises(Failure, match="r has changed: its etag is 1"):
        deleted(RULE, "r", "7", LATER)
