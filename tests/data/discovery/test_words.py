import pytest

from services.data.discovery.words import HOLE, words_of


def shown(text: str) -> str:
    return " ".join(words_of(text)).replace(HOLE, "<*>")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("took 17 ms", "took <*>"),
        ("took 1m 30s", "took <*>"),
        ("at 10.0.0.7:80 and /10.0.0.7", "at <*> and <*>"),
        ("from 2026-01-02T10:00:00.5Z to 2026-01-03", "from <*> to <*>"),
        ("id 5ce3b226-aad4-b03f-b593-50c8819a41a0 gone", "id <*> gone"),
        ("see https://vega.example/a?b=1 there", "see <*> there"),
        ("mail of a.b@stars.example", "mail of <*>"),
        ("wrote /var/lib/x.log", "wrote <*>"),
        ("block blk_-1608 of rdd_2_0", "block blk<*> of rdd<*>"),
        ("id P-17 of 3f00ab9c, ab12", "id <*> of <*>"),
        ("depth.......1 of deep.......22", "depth.......<*> of deep.......<*>"),
        ("bytes 00:0d:60:e9:24:61:ff:f2 at Sat Jun 11 19:20:25 2005", "bytes <*> at <*>"),
        ("from [a.b.c, d.e.f, g] to (x, y)", "from [<*>] to (<*>)"),
        ("at [  57.12] it", "at [<*>] it"),
        ("10.0.0.1 - 200 -", "<*>"),
        ("version 1.2.0-beta", "version <*>"),
        ("user=anna tries=3", "user=<*> tries=<*>"),
        ("ready: true, done: false", "ready: <*>, done: <*>"),
        ("pages 1, 2, 3 of book", "pages <*> of book"),
        ("free 656.2 MB of 1 GB", "free <*> of <*>"),
        ("door 3 (left open) shut", "door <*> (left open) shut"),
        ("perm= user=", "perm=<*> user=<*>"),
        ("nothing to see", "nothing to see"),
        ("", ""),
    ],
)
def test_values_that_show_by_their_form_are_taken_out(text: str, words: str) -> None:
    assert shown(text) == words


def test_what_stands_in_brackets_or_quotes_is_one_word() -> None:
    assert words_of("lost (no space left) 'on the disk'") == ("lost", "(no space left)", "'on the disk'")


def test_a_line_of_any_length_has_few_words() -> None:
    assert len(words_of(" ".join(["word"] * 10_000))) == 61


@pytest.mark.parametrize("part", ["a", "a.", "a-", "/a", "=a", "(", "'a", "1x"])
def test_a_word_of_any_length_is_a_value_at_once(part: str) -> None:
    assert shown(f"got {part * 100_000}! whole") == "got <*> whole"


def test_a_line_may_have_the_sign_that_stands_for_values() -> None:
    assert shown(f"a{HOLE}b c") == "a b c"
