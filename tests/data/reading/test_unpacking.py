"""Compressed files: read as what they hold, as far as they go, and no further than they may."""

import gzip
import io
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.reading import unpacking
from services.data.reading.formats import Compression
from services.data.reading.unpacking import compression, unpacked
from services.kit.errors import Code, Failure
from tests.data.packing import PACKERS, zstd

LINES = b"".join(b"line %07d of the log\n" % number for number in range(40_000))
EACH = pytest.mark.parametrize("kind", PACKERS)


def opened(data: bytes, kind: str) -> tuple[io.BufferedReader, unpacking.Content]:
    file, content = unpacked(io.BytesIO(data), Compression(kind), "a.log")
    assert content
    return file, content  # type: ignore[return-value]


@EACH
def test_the_content_is_what_was_packed_and_its_end_is_known(kind: str) -> None:
    file, content = opened(PACKERS[kind](LINES), kind)

    assert (file.read(), content.whole) == (LINES, True)


@EACH
def test_files_that_were_joined_are_read_to_their_end(kind: str) -> None:
    file, content = opened(PACKERS[kind](b"one\n") + PACKERS[kind](b"two\n"), kind)

    assert (file.read(), content.whole) == (b"one\ntwo\n", True)


def test_a_file_that_is_being_written_gives_what_is_there() -> None:
    data = gzip.compress(LINES)
    file, content = opened(data[: len(data) // 2], "gzip")
    found = file.read()

    assert LINES.startswith(found)
    assert len(found) > len(LINES) // 3
    assert not content.whole


def test_a_cut_file_of_zstandard_waits_for_its_end() -> None:
    file, content = opened(zstd(LINES)[:-5], "zstd")

    assert LINES.startswith(file.read())
    assert not content.whole


@EACH
def test_any_place_is_found_again(kind: str) -> None:
    file, _ = opened(PACKERS[kind](LINES), kind)
    for place in (500_000, 7, 700_000, 699_999, 0):
        file.seek(place)
        assert file.read(20) == LINES[place : place + 20]


@EACH
def test_a_damaged_file_says_which_and_what_to_do(kind: str) -> None:
    data = bytearray(PACKERS[kind](LINES))
    data[-6] ^= 255
    data[len(data) // 2] ^= 255
    file, _ = opened(bytes(data), kind)

    with pytest.raises(Failure, match=r"a\.log is damaged behind byte \d+ of its content: replace it") as caught:
        file.read()
    assert caught.value.code is Code.FAILED_PRECONDITION


@EACH
def test_a_bomb_is_refused_long_before_it_is_unpacked(kind: str) -> None:
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(2**20)
    bomb = b"".join([packer.compress(zeros) for _ in range(400)]) + packer.flush()
    bomb = bomb if kind == "gzip" else zstd(bytes(400 * 2**20))
    file, _ = opened(bomb, kind)
    assert len(file.read(60 * 2**20)) == 60 * 2**20
    with pytest.raises(Failure, match="unpacks to more than 200 times its size") as caught:
        file.read(5 * 2**20)
    assert caught.value.code is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize(
    ("pack", "kind"),
    [(gzip.compress, Compression.GZIP), (zstd, Compression.ZSTD), (lambda data: data, Compression.NONE)],
)
def test_the_first_bytes_tell_unless_it_is_said(pack: Callable[[bytes], bytes], kind: Compression) -> None:
    assert compression(io.BytesIO(pack(b"some\n")), Compression.DETECTED) is kind
    assert compression(io.BytesIO(pack(b"some\n")), Compression.GZIP) is Compression.GZIP


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["gzip", "zstd"]), st.integers(0, 40))
def test_any_bytes_are_content_or_damaged(data: bytes, kind: str, cut: int) -> None:
    for raw in (data, PACKERS[kind](data)[:-cut] + data):
        file, _ = opened(raw, kind)
        try:
            file.read()
        except Failure as failure:
            assert failure.code is Code.FAILED_PRECONDITION
