"""An etag is the state that a caller has seen."""

import pytest

from services.kit.errors import Code, Failure, match_etag


@pytest.mark.parametrize("etag", ["7", "*", ""])
def test_a_caller_who_saw_the_present_state_may_change_it(etag: str) -> None:
    match_etag(etag, 7, "flights")


@pytest.mark.parametrize("etag", ["6", "8", "07", " 7", "7 ", "+7", "7.0", "\u0667", '"7"', "**", "x"])
def test_any_other_etag_is_refused_with_the_one_that_holds(etag: str) -> None:
    with pytest.raises(Failure, match="flights has changed: its etag is 7") as caught:
        match_etag(etag, 7, "flights")

    assert caught.value.code is Code.ETAG_MISMATCH
