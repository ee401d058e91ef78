import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit import pages
from services.kit.errors import Failure


@given(text=st.text(), number=st.integers(-(2**63) + 1, 2**63 - 1))
def test_a_token_says_where_a_page_ended(text: str, number: int) -> None:
    text = text.encode(errors="ignore").decode()

    assert pages.after(pages.token(text, number), str, int) == (text, number)


@given(st.text())
def test_any_text_is_a_token_or_refused_as_one(text: str) -> None:
    try:
        pages.after(text, str)
    except Failure as failure:
        assert failure.violations[0].pointer == "/page_token"


def test_a_token_of_another_list_is_refused() -> None:
    with pytest.raises(Failure):
        pages.after(pages.token("a"), int)


@pytest.mark.parametrize(("requested", "given_out"), [(0, 100), (7, 7), (10**9, 1000)])
def test_sizes_are_bounded(requested: int, given_out: int) -> None:
    assert pages.size(requested) == given_out


@given(st.integers(0, 30), st.integers(1, 7))
def test_pages_hold_everything_once(count: int, size: int) -> None:
    items, token, seen = list(range(count)), "", list[int]()
    while True:
        last = pages.after(token, int)
        rest = [item for item in items if last is None or item > int(last[0])]
        page = pages.cut(rest[: size + 1], size, lambda item: (item,))
        seen += page.items
        token = page.next_token
        if not token:
            break

    assert seen == items
