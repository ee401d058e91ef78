import pytest

from services.data.discovery.headers import Header, Kind, find
from tests.data.discovery.systems import SYSTEMS, corpus


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_stands_in_front_is_no_part_of_the_message(name: str) -> None:
    system = SYSTEMS[name]
    found = corpus(system, seed=2, size=400)
    header = find(found.lines)

    for line, message in zip(found.lines, found.truth, strict=True):
        own = system.messages[message].split("{")[0]
        assert (header.content(line) or "").startswith(own)


def test_a_separator_may_stand_at_several_places() -> None:
    lines = [f"[10.30 16:49:0{n % 10}] {name} - {n} bytes sent" for n in range(100) for name in ("web", "mail *64")]

    assert find(lines).content("[10.30 16:49:06] git *64 - closed") == "closed"


def test_a_line_with_another_beginning_has_no_message() -> None:
    assert Header((Kind.TIME, Kind.LEVEL)).content("alone") is None


def test_sentences_have_no_header() -> None:
    assert find([f"user {n} bought {n} items" for n in range(50)]) == Header()
