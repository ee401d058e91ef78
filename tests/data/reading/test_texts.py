"""Encodings: the same lines, whatever bytes they are written in."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.reading.formats import Dialect, Encoding
from services.data.reading.lines import CsvReader, TextReader

# U+0A0A and U+0A41 have a byte 10 that ends no line.
TEXT = "Zürich\nb\u0a0a\u0a41\n\U0001f600 end\n"
WIDE = [("utf-16", Encoding.UTF_16), ("utf-16-le", Encoding.UTF_16_LE), ("utf-16-be", Encoding.UTF_16_BE)]


def read(data: bytes, encoding: Encoding, step: int = 100) -> tuple[list[str], list[str], int]:
    reader, found, broken = TextReader(io.BytesIO(data), encoding=encoding), list[str](), list[str]()
    while (batch := reader.read(step)).size:
        found += batch.records
        broken += [reason for _, _, reason in batch.broken]
    return found, broken, reader.offset


@pytest.mark.parametrize(("codec", "encoding"), [*WIDE, ("utf-8-sig", Encoding.DEFAULT), ("utf-8", Encoding.UTF_8)])
def test_lines_are_the_same_in_every_encoding(codec: str, encoding: Encoding) -> None:
    data = TEXT.encode(codec)
    assert read(data, encoding) == (TEXT.splitlines(), [], len(data))


def test_a_mark_of_big_endian_bytes_is_believed() -> None:
    assert read(b"\xfe\xff" + "é\n".encode("utf-16-be"), Encoding.UTF_16)[0] == ["é"]


@pytest.mark.parametrize(
    ("raw", "encoding", "text"),
    [(b"Z\xfcrich\n", Encoding.LATIN_1, "Zürich"), (b"5 \x80\n", Encoding.WINDOWS_1252, "5 €")],
)
def test_one_byte_is_one_character(raw: bytes, encoding: Encoding, text: str) -> None:
    assert read(raw, encoding)[0] == [text]


def test_what_the_encoding_does_not_have_is_broken_alone() -> None:
    assert read(b"a\n\x81\nb\n", Encoding.WINDOWS_1252)[:2] == (["a", "b"], ["the line is not windows-1252"])
    lone = "a\n".encode("utf-16-le") + b"\x00\xd8" + "\nb\n".encode("utf-16-le")
    assert read(lone, Encoding.UTF_16_LE)[:2] == (["a", "b"], ["the line is not UTF-16"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"])), max_size=6),
    st.sampled_from(WIDE),
    st.integers(0, 60),
)
def test_reading_goes_on_where_it_ended_in_wide_text(texts: list[str], wide: tuple[str, Encoding], cut: int) -> None:
    codec, encoding = wide
    data = "".join(f"{text}\n" for text in texts).encode(codec)
    first, _, offset = read(data[:cut], encoding, 1)
    reader = TextReader(io.BytesIO(data), offset, len(first), encoding=encoding)
    rest = list[str]()
    while (batch := reader.read(2)).size:
        rest += batch.records
    assert first + rest == texts


@pytest.mark.parametrize(
    ("text", "dialect", "fields", "rows"),
    [
        ("a;b\n'1;2';3\n", Dialect(";", "'"), ["a", "b"], [["1;2", "3"]]),
        ('a|b\n"say \\"hi\\""|2\n', Dialect("|", escape="\\"), ["a", "b"], [['say "hi"', "2"]]),
        ('a,b\n5",6"\n', Dialect(quote=""), ["a", "b"], [['5"', '6"']]),
        ("1,x\n2,y\n", Dialect(headless=True), ["column_1", "column_2"], [["1", "x"], ["2", "y"]]),
    ],
)
def test_a_dialect_is_read_as_it_is_said(text: str, dialect: Dialect, fields: list[str], rows: list[list[str]]) -> None:
    for codec, encoding in WIDE:
        reader = CsvReader(io.BytesIO(text.encode(codec)), encoding=encoding, dialect=dialect)
        assert (list(reader.fields), reader.read(10).records) == (fields, rows)


def test_a_file_without_a_header_goes_on_with_its_fields() -> None:
    first = CsvReader(io.BytesIO(b"1,x\n"), dialect=Dialect(headless=True))
    assert first.read(5).records == [["1", "x"]]
    again = CsvReader(io.BytesIO(b"1,x\n2,y\n"), first.offset, first.number, dialect=Dialect(headless=True))

    assert (again.read(5).records, again.number, list(again.fields)) == ([["2", "y"]], 2, ["column_1", "column_2"])
