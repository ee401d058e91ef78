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


@pytest.mark.parametrize("gap", ["        ", "\t"])
def test_a_column_may_have_several_words(gap: str) -> None:
    lines = [
        f"2026-01-02 10:00:{n:02} INFO {name}{gap}stored {n}" for n in range(60) for name in ("Menu Host", "Vault")
    ]
    header = find(lines)

    assert {header.content(line) for line in lines} == {f"stored {n}" for n in range(60)}


def test_words_that_all_messages_have_are_no_header() -> None:
    lines = [f"INFO node-{n} stored block blk_{n} on alt{n % 3}: {n % 2}" for n in range(60)]

    assert find(lines) == Header((Kind.LEVEL,))


def test_some_lines_may_have_a_mark_where_others_have_a_dash() -> None:
    lines = [f"{'ALERT' if n % 50 == 0 else '-'} 2026-01-02 10:00:{n % 60:02} INFO stored {n}" for n in range(100)]
    header = find(lines)

    assert Kind.SEPARATOR not in header.kinds
    assert [header.content(line) for line in lines] == [f"stored {n}" for n in range(100)]


def test_a_line_without_the_brackets_of_the_others_has_no_message() -> None:
    assert Header((Kind.BRACKET, Kind.BRACKET)).content("10.0.0.1 - [gate] GET /") is None


def test_a_line_with_another_beginning_has_no_message() -> None:
    assert Header((Kind.TIME, Kind.LEVEL)).content("alone") is None


def test_sentences_have_no_header() -> None:
    assert find([f"user {n} bought {n} items" for n in range(50)]) == Header()
