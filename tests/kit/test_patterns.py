import time

import pytest

from services.kit import patterns
from services.kit.errors import Code, Failure


def test_named_groups_are_picked_in_the_order_asked_for() -> None:
    pick = patterns.picker(r"(?P<a>\w+)-(?P<b>\d+)?", ["b", "a"])

    assert pick("x-1") == ("1", "x")
    assert pick("x-") == (None, "x")
    assert pick("x-1 and more") is None


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "(?<=a)b", "a{5000}", "((a{100}){100}){100}"])
def test_what_re2_does_not_have_is_refused(pattern: str) -> None:
    with pytest.raises(Failure) as caught:
        patterns.compiled(pattern)
    assert caught.value.code is Code.PATTERN_UNSUPPORTED


@pytest.mark.parametrize("pattern", [r"\(?P<n>a?(?P<n>b)", "(?P<a>x)(?P<b>y)", "(x)(x)", "(?:x)(?i:y)"])
def test_groups_with_different_names_or_none_are_fine(pattern: str) -> None:
    patterns.compiled(pattern)


def test_a_pattern_has_a_longest_length() -> None:
    with pytest.raises(Failure, match="more than 4096 characters"):
        patterns.compiled("a" * 4097)


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(.*a){12}"])
def test_an_evil_pattern_takes_linear_time(pattern: str) -> None:
    begin = time.process_time()
    patterns.picker(pattern, [])("a" * 20_000 + "!")
    assert time.process_time() - begin < 1


def test_of_many_patterns_those_that_match_a_line_are_found_in_their_order() -> None:
    choice = patterns.Choice([r"(?P<a>\w+) (?P<b>\d+)", r"\w+", r"x.*", r"(?P<a>\w) 1"])

    assert list(choice("x 1")) == [0, 2, 3]
    assert list(choice("word")) == [1]
    # Also long after the lines with which it was checked that nothing is missed.
    assert [list(choice("?")) for _ in range(100)] == [[]] * 100


@pytest.mark.parametrize("memory", [2000, 20_000])
def test_many_patterns_that_have_no_room_together_are_tried_one_by_one(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "_MEMORY_OF_MANY", memory)
    choice = patterns.Choice([rf"(\w+ )*{number}( \w+){{3}}" for number in range(40)])

    assert [list(choice(f"a b {number} c d e")) for number in range(40)] == [[number] for number in range(40)]


def test_a_broken_pattern_among_many_is_refused() -> None:
    with pytest.raises(Failure):
        patterns.Choice(["a", "("])
