"""The form in which bytes lie sealed: what anybody does to it is noticed, and what is given is what was sealed."""

import itertools
import os
from io import BytesIO
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.digests import digest_of
from services.kit.errors import Code, Failure
from services.kit.sealed import (
    CHUNK,
    HEAD,
    TAG,
    Box,
    Key,
    Sealer,
    Thing,
    box_of,
    number_of,
    plain_size,
    sealed_file,
    sealed_size,
    span,
)

KEY, THING = Key(3, b"k" * 32), Thing("acme", "blob", "sha256:00")
# Around the edges of chunks, where there is something to go wrong.
SIZES = st.one_of(
    st.integers(0, 100), *(st.integers(n * CHUNK - 2, n * CHUNK + 2) for n in (1, 2, 3)), st.integers(0, 4 * CHUNK)
)
quick = hypothesis.settings(max_examples=40, deadline=None)


def sealed(plain: bytes, cuts: tuple[int, ...] = (), key: Key = KEY, thing: Thing = THING) -> bytes:
    out = BytesIO()
    sealer = Sealer(Box(key, thing), out)
    places = [0, *sorted(cut % (len(plain) + 1) for cut in cuts), len(plain)]
    for begin, end in itertools.pairwise(places):
        sealer.write(plain[begin:end])
    assert sealer.end() == digest_of(plain)
    return out.getvalue()


def opened(data: bytes, key: Key = KEY, thing: Thing = THING) -> bytes:
    """All of it, as a store of blobs does it: the size says how many chunks there are."""
    size = plain_size(len(data), thing.name)
    begin, end, ends = span(0, max(1, -(-size // CHUNK)), size)
    return box_of(data[:HEAD], key, thing).open_run(0, data[begin:end], ends)


def refused(data: bytes, key: Key = KEY, thing: Thing = THING) -> bool:
    try:
        opened(data, key, thing)
    except Failure as failure:
        return failure.code is Code.DIGEST_MISMATCH and thing.name in failure.detail
    return False


def chunks(data: bytes) -> list[bytes]:
    return [data[at : at + CHUNK + TAG] for at in range(HEAD, len(data), CHUNK + TAG)]


@quick
@given(SIZES, st.lists(st.integers(0, 2**20), max_size=5))
def test_however_it_is_cut_while_it_is_written_it_comes_back(size: int, cuts: list[int]) -> None:
    plain = os.urandom(size)
    data = sealed(plain, tuple(cuts))

    assert opened(data) == plain
    assert (len(data), plain_size(len(data), "it")) == (sealed_size(size), size)
    assert number_of(data) == KEY.number


@quick
@given(SIZES, st.integers(0, 5), st.integers(1, 5))
def test_any_run_of_chunks_opens_without_the_others(size: int, first: int, count: int) -> None:
    plain = os.urandom(size)
    data, all_of_them = sealed(plain), max(1, -(-size // CHUNK))
    first %= all_of_them
    begin, end, ends = span(first, count, size)

    found = box_of(data[:HEAD], KEY, THING).open_run(first, data[begin:end], ends)
    assert found == plain[first * CHUNK : (first + count) * CHUNK]


@quick
@given(SIZES, st.integers(0, 2**30), st.integers(0, 7))
def test_a_changed_bit_anywhere_is_refused_or_makes_it_something_that_is_not_sealed(
    size: int, place: int, bit: int
) -> None:
    data = bytearray(sealed(os.urandom(size)))
    data[place % len(data)] ^= 1 << bit

    # In the first bytes it does not say any more that it is sealed, or with which key; both lead to no bytes.
    assert number_of(bytes(data)) != KEY.number or refused(bytes(data))


@quick
@given(SIZES, st.integers(1, 2**30))
def test_an_end_that_was_cut_off_is_refused(size: int, cut: int) -> None:
    data = sealed(os.urandom(size))
    kept = data[: -(1 + cut % (len(data) - HEAD))]

    assert refused(kept)


@pytest.mark.parametrize("size", [2 * CHUNK, 2 * CHUNK + 5, 3 * CHUNK])
def test_whole_chunks_that_are_missing_moved_or_doubled_are_refused(size: int) -> None:
    data = sealed(os.urandom(size))
    head, parts = data[:HEAD], chunks(data)

    for wrong in (parts[:-1], parts[1:], [parts[1], parts[0], *parts[2:]], [parts[0], *parts], [*parts, parts[-1]]):
        assert refused(head + b"".join(wrong))


@pytest.mark.parametrize(
    "other",
    [Thing("rival", "blob", "sha256:00"), Thing("acme", "upload", "sha256:00"), Thing("acme", "blob", "sha256:01")],
)
def test_what_is_another_tenants_or_something_else_does_not_open_and_neither_do_its_chunks(other: Thing) -> None:
    mine, theirs = sealed(b"a" * 2 * CHUNK), sealed(b"b" * 2 * CHUNK, thing=other)

    assert refused(theirs)
    assert refused(mine[:HEAD] + chunks(mine)[0] + chunks(theirs)[1])


def test_chunks_of_two_sealings_of_one_thing_do_not_mix() -> None:
    one, two = sealed(b"a" * 2 * CHUNK), sealed(b"b" * 2 * CHUNK)

    assert refused(one[:HEAD] + chunks(one)[0] + chunks(two)[1])
    assert one[HEAD:] != sealed(b"a" * 2 * CHUNK)[HEAD:]


def test_another_key_opens_nothing() -> None:
    assert refused(sealed(b"hello"), Key(3, b"x" * 32))


def test_a_key_is_not_shown() -> None:
    assert "k" not in repr(KEY).removeprefix("Key(")


@pytest.mark.parametrize("length", [0, 1, HEAD, HEAD + TAG - 1, HEAD + CHUNK + TAG + 1, HEAD + CHUNK + 2 * TAG])
def test_a_length_that_nothing_sealed_has_is_refused(length: int) -> None:
    with pytest.raises(Failure, match="has been damaged in its store"):
        plain_size(length, "it")


def test_a_file_of_other_bytes_than_its_name_says_is_not_there(tmp_path: Path) -> None:
    box = Box(KEY, Thing("acme", "blob", digest_of(b"hello")))
    with pytest.raises(Failure, match="do not hash to"):
        sealed_file(tmp_path, box, [b"hell", b"0"])

    assert not list(tmp_path.iterdir())
    assert sealed_file(tmp_path, box, [b"hell", b"o"]).stat().st_size == sealed_size(5)
