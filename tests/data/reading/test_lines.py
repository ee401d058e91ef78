import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.reading import lines
from services.data.reading.formats import Dialect, Encoding
from services.data.reading.kinds import FileFormat, FilesSource
from services.data.reading.lines import CsvReader, JsonReader, Reader, TextReader
from services.data.reading.plain import Fields, columns_of
from services.kit.errors import Failure


def everything(reader: Reader, step: int = 100) -> tuple[list[Any], list[tuple[int, str, str]]]:
    records, broken = list[Any](), list[tuple[int, str, str]]()
    while (batch := reader.read(step)).size:
        records += batch.records
        broken += batch.broken
    return records, broken


def test_lines_are_given_whole_and_numbered() -> None:
    reader = TextReader(io.BytesIO(b"one\r\ntwo\nthr"))
    batch = reader.read(10)

    assert (batch.records, batch.numbers) == (["one", "two"], [1, 2])
    assert (reader.offset, reader.number) == (9, 2)
    assert reader.read(10).size == 0


def test_a_last_line_counts_in_a_file_that_is_complete() -> None:
    assert everything(TextReader(io.BytesIO(b"one\ntwo"), complete=True))[0] == ["one", "two"]
    assert everything(TextReader(io.BytesIO(b""), complete=True))[0] == []


def test_reading_goes_on_where_it_ended() -> None:
    file = io.BytesIO(b"one\ntwo")
    first = TextReader(file)
    first.read(10)
    file = io.BytesIO(b"one\ntwo and more\nthree\n")
    second = TextReader(file, first.offset, first.number)
    batch = second.read(10)

    assert (batch.records, batch.numbers) == (["two and more", "three"], [2, 3])


@pytest.mark.parametrize(("kind", "data", "more"), [(TextReader, b"1\n2", b"3\n"), (JsonReader, b"{}\n{", b"}\n")])
def test_a_line_that_is_completed_while_the_file_is_read_waits_whole(kind: Any, data: bytes, more: bytes) -> None:
    file = io.BytesIO(data)
    reader = kind(file)
    offset = len(data) - 1
    assert (reader.read(10).size, reader.offset) == (1, offset)
    file.seek(0, 2)
    file.write(more)
    file.seek(len(data))
    assert (reader.read(10).size, reader.offset) == (0, offset)


def test_a_line_that_is_not_text_or_too_long_is_broken_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST", 10)
    records, broken = everything(TextReader(io.BytesIO(b"ok\n\xff\n" + b"x" * 35 + b"\nok\n")))

    assert records == ["ok", "ok"]
    assert [(number, reason) for number, _, reason in broken] == [
        (2, "the line is not UTF-8"),
        (3, "the line is longer than 1 MiB"),
    ]


def test_a_batch_has_so_many_records_or_bytes() -> None:
    file = io.BytesIO(b"abc\n" * 100)
    assert TextReader(file).read(7).size == 7
    assert TextReader(file).read(100, 20).size == 5


def test_an_empty_batch_is_the_end_however_long_the_desert_of_blank_lines() -> None:
    reader = JsonReader(io.BytesIO(b"\n" * 50 + b'{"a": 1}\n' + b" \n" * 50 + b'{"a": 2}\n'))
    found = [reader.read(10, 4) for _ in range(3)]

    assert [batch.records for batch in found] == [[{"a": 1}], [{"a": 2}], []]
    assert found[1].numbers == [102]


@pytest.mark.parametrize(("levels", "kept"), [(1, True), (200, True), (201, False), (1020, False)])
def test_a_document_may_nest_as_deeply_as_it_can_be_written_again(levels: int, kept: bool) -> None:
    line = b'{"a":' * levels + b"1" + b"}" * levels + b"\n"
    records, broken = everything(JsonReader(io.BytesIO(line)))

    assert len(records) == kept
    assert [reason for _, _, reason in broken] == [] if kept else ["the line nests too deeply"]
    for record in records:
        assert lines.text_of(record, ())


def test_brackets_within_texts_and_beside_each_other_are_not_depth() -> None:
    beside = b'{"a": [' + b",".join([b"[]"] * 500) + b'], "b": "' + b"[" * 500 + b'"}\n'
    assert len(everything(JsonReader(io.BytesIO(beside)))[0]) == 1


def test_json_lines_are_objects_and_blank_ones_nothing() -> None:
    records, broken = everything(JsonReader(io.BytesIO(b'{"a": 1}\n\n  \n[1]\n{"a"\n{"a": NaN}\n')))

    assert records == [{"a": 1}]
    assert [reason for _, _, reason in broken] == ["the line is not a JSON object"] + ["the line is not JSON"] * 2


def test_json_that_nests_deeply_is_broken_and_harms_nobody() -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    assert [reason for _, _, reason in everything(JsonReader(io.BytesIO(deep + b"\n")))[1]] == ["the line is not JSON"]


def test_csv_knows_quotes_and_a_byte_order_mark() -> None:
    reader = CsvReader(io.BytesIO(b'\xef\xbb\xbfa,b\r\n1,"x\ny"\r\n2,5" pipe\n\n"3","say ""hi"""\n'))

    assert reader.fields == ["a", "b"]
    assert everything(reader)[0] == [["1", "x\ny"], ["2", '5" pipe'], ["3", 'say "hi"']]


def test_an_open_quote_waits_for_its_end() -> None:
    file = b'a,b\n1,x\n2,"open\n'
    reader = CsvReader(io.BytesIO(file))
    assert everything(reader)[0] == [["1", "x"]]
    again = CsvReader(io.BytesIO(file + b'end"\n3,z\n'), reader.offset, reader.number)
    batch = again.read(10)
    assert (batch.records, batch.numbers) == ([["2", "open\nend"], ["3", "z"]], [3, 4])


def test_records_that_do_not_fit_the_header_are_broken_with_their_text() -> None:
    _, broken = everything(CsvReader(io.BytesIO(b"a,b\n1\n1,2,3\n1,\xff\n")))

    assert [(number, text) for number, text, _ in broken] == [(2, "1"), (3, "1,2,3"), (4, "1,\ufffd")]


def test_a_field_that_never_ends_does_not_swallow_the_file() -> None:
    text = b'a,b\n1,"' + b"x\n" * 100_000 + b"2,y\n"
    records, broken = everything(CsvReader(io.BytesIO(text)))

    assert records[-1] == ["2", "y"]
    assert "the record is not CSV" in {reason for _, _, reason in broken}


def test_another_delimiter_is_one_character() -> None:
    source = FilesSource(FileFormat.CSV, "a.csv", delimiter=";")
    assert everything(lines.reader(source, io.BytesIO(b"a;b\n1,5;2\n")))[0] == [["1,5", "2"]]


@pytest.mark.parametrize("text", [b"", b"a,b", b"\xef\xbb\xbf"])
def test_a_file_without_a_whole_header_has_no_records_yet(text: bytes) -> None:
    reader = CsvReader(io.BytesIO(text))
    assert (reader.fields, reader.read(10).size) == ((), 0)


@pytest.mark.parametrize(("text", "says"), [(b"a,a\n1,2\n", "names a column twice"), (b"\xff,b\n", "cannot be read")])
def test_a_header_that_cannot_be_is_said(text: bytes, says: str) -> None:
    with pytest.raises(Failure, match=says):
        CsvReader(io.BytesIO(text))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.text("ab,\"\n' é", max_size=6), min_size=2, max_size=2), max_size=12), st.data())
def test_a_file_that_grows_anywhere_gives_each_record_once(rows: list[list[str]], data: st.DataObject) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["a", "b"], *rows])
    whole = text.getvalue().encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    found, offset, number = [], 0, 0
    for cut in (*cuts, len(whole)):
        reader = CsvReader(io.BytesIO(whole[:cut]), offset, number)
        found += everything(reader, 3)[0]
        if reader.fields:
            offset, number = reader.offset, reader.number
    assert found == rows


def test_records_are_shown_as_json_and_lines_as_they_are() -> None:
    assert lines.text_of("line", ()) == "line"
    assert lines.text_of(["1", "é"], ["a", "b"]) == '{"a": "1", "b": "é"}'
    assert lines.text_of((1, b"\x00\xff"), ["a", "b"]) == '{"a": 1, "b": "00ff"}'
    assert len(lines.text_of("x" * 10_000, ())) == 8192


PIECES = st.sampled_from(
    [b"1,2\n"] * 30
    + [b"a,b\r\n", b"\n", b"\r\n", b'"x\ny",2\n', b'x"y,2\n', b"1,2,3\n", b"\xff,2\n", b"1,\r2\n", b"\0,1\n", b"3"]
    + ["ü, \u2028\n".encode(), b"\xef\xbb\xbf1,2\n", b",\n", b"NA,null\n", b"1,2\n\r", b"\r1,2\n"]
)


@given(
    st.lists(PIECES, min_size=60, max_size=400),
    st.sampled_from([CsvReader, TextReader]),
    st.booleans(),
    st.sampled_from([1000, 5000]),
    st.sampled_from([1, 3, 2000]),
    st.sampled_from([Encoding.DEFAULT, Encoding.LATIN_1]),
)
@settings(max_examples=120, deadline=None)
def test_many_lines_at_once_are_what_they_are_one_by_one(
    pieces: list[bytes], kind: Any, complete: bool, step: int, plain: int, encoding: Encoding
) -> None:
    data = b"a,b\n" + b"12,345678\n" * plain + b"".join(pieces) + b"12,345678\n" * plain
    one, many = (kind(io.BytesIO(data), complete=complete, encoding=encoding) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_WARY", (64, 256))
        patch.setattr(lines, "_WORTH", 128)
        # Fewer than 64 are read line by line, and as columns from 4,096 on.
        assert everything(many, step) == everything(one, 7)
    assert (many.offset, many.number) == (one.offset, one.number)


@pytest.mark.parametrize("every", [0, 700, 40_000])
def test_quotes_here_and_there_cost_their_neighbours_only(every: int) -> None:
    rows = [[str(number), f'say "{number}"' if every and number % every == 1 else "x"] for number in range(120_000)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["a", "b"], *rows])
    reader, found, columns = CsvReader(io.BytesIO(text.getvalue().encode())), list[list[str]](), 0
    while (page := reader.read(32_768)).size:
        assert list(page.numbers) == list(range(len(found) + 2, len(found) + page.size + 2))
        found += page.records
        columns += page.size if isinstance(page.records, Fields) else 0
    assert found == rows
    assert columns >= {0: 120_000, 700: 0, 40_000: 100_000}[every]


def test_fields_are_records_of_their_place() -> None:
    fields = columns_of(b"1,a\n2,b\n3,c\n", Dialect(), 2)
    assert fields is not None
    assert (len(fields), fields[1], fields[-1]) == (3, ["2", "b"], ["3", "c"])
    assert list(fields[1:]) == [["2", "b"], ["3", "c"]]


@pytest.mark.parametrize("kind", [CsvReader, TextReader])
def test_many_lines_have_the_numbers_and_offsets_of_each(kind: Any) -> None:
    data = b"a,b\n" + "".join(f"{n},ü{n}\n" for n in range(50_000)).encode()
    reader, numbers, records = kind(io.BytesIO(data)), list[int](), list[Any]()
    while (batch := reader.read(1000)).size:
        assert len(batch.records) <= 1000
        numbers, records = [*numbers, *batch.numbers], [*records, *batch.records]
        again = kind(io.BytesIO(data), reader.offset, reader.number).read(100)
        assert list(again.numbers[:1]) == ([numbers[-1] + 1] if numbers[-1] < 50_001 else [])
        if len(numbers) > 10_000:
            break

    assert records[-1] in (f"{len(records) - 2},ü{len(records) - 2}", [f"{len(records) - 1}", f"ü{len(records) - 1}"])


class Growing(io.BytesIO):
    """A file to which somebody adds the end of its last line right behind a look at it."""

    def readline(self, size: int | None = -1) -> bytes:
        line = super().readline(size)
        if line == b"be":
            at = self.tell()
            self.write(b"gun\n")
            self.seek(at)
        return line


def test_a_last_line_that_grows_between_two_looks_waits_whole() -> None:
    reader = TextReader(Growing(b"x\n" * 100 + b"be"))

    assert everything(reader, 1000) == (["x"] * 100, [])
    assert reader.offset == 200
