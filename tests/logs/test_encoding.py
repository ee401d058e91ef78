from hypothesis import given
from hypothesis import strategies as st

from services.logs.domain import Record, bounded, cut, severity, text_of, word
from services.logs.encoding import dumps, from_row, loads, pack, to_row, unpack
from services.logs.wire import to_wire
from tests.logs.records import NOON, record

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = TEXT | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
RECORDS = st.builds(
    Record,
    record=TEXT,
    tenant=TEXT,
    project=TEXT,
    time_ns=st.integers(0, 2**62),
    kind=TEXT,
    text=TEXT,
    version=st.integers(0, 2**31 - 1),
    duration_ms=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    attributes=st.dictionaries(TEXT, VALUES, max_size=4),
    scores=st.binary(max_size=40),
)


@given(st.lists(RECORDS, max_size=5))
def test_records_survive_their_bytes(records: list[Record]) -> None:
    assert unpack(pack(records)) == records


@given(RECORDS)
def test_the_index_keeps_all_but_the_scores(one: Record) -> None:
    back = loads(dumps(one))

    assert isinstance(back, Record)
    assert back.scores == b""
    assert to_row(back)[:-1] == to_row(one)[:-1]


def test_a_record_of_an_older_shape_is_read() -> None:
    row = to_row(record(1, text="x", scores=b"abc"))

    assert from_row(row).text == "x"


def test_a_record_is_shown_to_callers_in_their_words() -> None:
    shown = to_wire(
        record(2, version=3, duration_ms=0.5, attributes={"a": True, "b": 7, "c": 0.5, "d": "x"}, scores=b"x")
    )

    assert dict(shown.attributes) == {"a": "true", "b": "7", "c": "0.5", "d": "x"}
    assert shown.time.ToNanoseconds() == NOON + 2_000_000
    assert (shown.version, shown.duration_ms) == (3, 0.5)


def test_what_is_too_long_is_cut() -> None:
    assert (len(cut("x" * 99_999)), len(word("x" * 999))) == (16_384, 256)
    assert bounded({"a b\n": "x" * 2_000, "n": 5}) == {"a_b_": "x" * 1_000, "n": 5}


def test_loggers_have_many_names_for_a_severity() -> None:
    assert [severity(name) for name in ("WARNING", "CRITICAL", "", "INFO")] == ["WARN", "ERROR", "INFO", "INFO"]
    assert (text_of(True), text_of(2)) == ("true", "2")
