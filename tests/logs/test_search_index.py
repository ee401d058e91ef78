import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.logs.domain import Record
from services.logs.search.domain import All, Field, Query, Range, Words, matches, parse
from services.logs.search.domain.query import sortable, words_of
from services.logs.search.index import Index, Window
from services.logs.search.translation import between
from tests.logs.queries import PHASES, trees
from tests.logs.records import NOON, record

ACME, RIVAL = Scope("acme"), Scope("rival")
TEXTS = ["late model is late", "Late-Model v2", "naïve  café_x", "", "a\nb c", "ßtraße ΑΒΓ", "late (model)", "x" * 80]
VALUES = ["late", "late.2", "a*b", "Rel", "Released", "é\nx", "500", "404", "-1.5", "1e3", "not_found", "a=b"]
NUMBERS = [0.0, -0.0, 1.0, -1.0, 2.5, 404.0, 500.0, 1e300, -1e300, 5e-324, 1000.0]
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["x", "rows.count", "a-b"]),
    st.sampled_from(VALUES) | st.sampled_from(NUMBERS) | st.booleans() | st.integers(-5, 5),
    max_size=3,
)
IDS = [
    "0192ab00-0000-7000-8000-000000000000",
    "0192ab00-0000-7000-bfff-ffffffffffff",
    "0192ab00-0001-7000-8000-000000000000",
    "f192ab00-0000-7000-8000-000000000000",  # from here on none of ours
    "0192ab00-0000-4000-8000-000000000000",
    "0192AB00-0000-7000-8000-000000000000",
]
RECORDS = st.builds(
    lambda **values: record(0, **values),
    text=st.sampled_from(TEXTS),
    kind=st.sampled_from(["log", "span", "event"]),
    name=st.sampled_from(VALUES),
    model=st.sampled_from(["", *VALUES]),
    status=st.sampled_from(["", *VALUES]),
    request_id=st.sampled_from(["", "r-1", "r-2", *IDS]),
    trace_id=st.sampled_from(["", "ab" * 16, *(one.replace("-", "") for one in IDS)]),
    version=st.integers(0, 5),
    duration_ms=st.none() | st.sampled_from(NUMBERS),
    attributes=ATTRIBUTES,
)
TRACES = [one.replace("-", "") for one in IDS]
WORDS = sorted({word for text in TEXTS for word in words_of(text)} | {"absent"})
BOUNDS = st.none() | st.sampled_from(NUMBERS)
FIELDS = st.sampled_from(["kind", "name", "model", "status", "request_id", "attributes.x", "attributes.rows.count"])
LEAVES: st.SearchStrategy[Query] = st.one_of(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(lambda words: Words(tuple(words))),
    st.sampled_from([word[:2] for word in WORDS if len(word) > 1]).map(lambda word: Words((word,), True)),
    st.builds(Field, FIELDS, st.sampled_from(VALUES)),
    st.builds(Field, FIELDS, st.sampled_from(["la", "Re", "é\n", "a*", "a=", "40"]), st.just(True)),
    st.builds(Field, st.just("request_id"), st.sampled_from(IDS)),
    st.builds(
        Field,
        st.just("request_id"),
        st.sampled_from([one[:end] for one in IDS for end in (0, 3, 13, 14, 20, 35, 36)]),
        st.just(True),
    ),
    st.builds(Field, st.just("trace_id"), st.sampled_from(["\0", "ab" * 16, *TRACES])),
    st.builds(
        Field,
        st.just("trace_id"),
        st.sampled_from([one[:end] for one in TRACES for end in (0, 3, 12, 13, 20, 32)]),
        st.just(True),
    ),
    st.builds(
        Range,
        st.sampled_from(["version", "duration_ms", "status", "attributes.x", "attributes.a-b"]),
        BOUNDS,
        BOUNDS,
        st.booleans(),
        st.booleans(),
    ),
)
QUERIES = trees(LEAVES)
EVERYTHING = Window()


def fill(index: Index, *records: Record) -> None:
    index.add(list(enumerate(records)))
    index.commit((0, 0))


def found(index: Index, text: str, scope: Scope = ACME, window: Window = EVERYTHING, limit: int = 100) -> list[str]:
    return [one.record.record for one in index.search(scope, parse(text), window, limit)]


@settings(max_examples=40, phases=PHASES)
@given(records=st.lists(RECORDS, min_size=1, max_size=12), queries=st.lists(QUERIES, min_size=8, max_size=8))
def test_the_index_and_a_filter_agree(shared: Index, records: list[Record], queries: list[Query]) -> None:
    numbered = [one._replace(record=f"r{number}", time_ns=NOON + number) for number, one in enumerate(records)]
    shared._writer and shared._writer.delete_all_documents()
    fill(shared, *numbered)

    for query in queries:
        asked = {one.record.record for one in shared.search(ACME, query, EVERYTHING, 100)}
        assert asked == {one.record for one in numbered if matches(query, one)}, query


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_digits_sort_as_numbers_do(one: float, other: float) -> None:
    assert (one < other) == (sortable(one) < sortable(other))


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
def test_a_range_of_digits_is_an_expression(one: int, other: int, value: int) -> None:
    import re

    low, high = sorted((one, other))
    assert bool(re.fullmatch(between(f"{low:04x}", f"{high:04x}"), f"{value:04x}")) == (low <= value <= high)


def test_a_record_is_found_by_what_it_says(index: Index) -> None:
    fill(index, record(0, text="model late loaded"), record(1, kind="prediction", model="late", version=3))

    assert found(index, '"model late"') == ["r0"]
    assert found(index, "kind:prediction AND model:late AND version:>2") == ["r1"]
    assert found(index, "") == ["r1", "r0"]


def test_a_tenant_and_a_project_see_their_own_only(index: Index) -> None:
    fill(index, record(0, text="mine"), record(1, tenant="rival", text="his"), record(2, project="other", text="mine"))

    assert found(index, "mine OR his OR NOT x") == ["r0"]
    assert found(index, "", RIVAL) == ["r1"]
    assert found(index, 'name:x OR attributes.scope:"rival/default"') == []


@pytest.mark.parametrize("kind", ["log", "span"])
def test_a_record_that_is_added_again_is_there_once(index: Index, kind: str) -> None:
    fill(index, record(0, text="first", kind=kind))
    fill(index, record(0, text="again", kind=kind))

    assert found(index, "") == ["r0"]
    assert index.total(ACME, All(), EVERYTHING) == 1


def test_a_span_that_two_events_bring_is_there_once(index: Index) -> None:
    index.add([(0, record(0, kind="span")), (1, record(0, kind="span"))])
    index.commit((0, 0))

    assert found(index, "") == ["r0"]


def test_what_was_added_before_a_crash_and_is_not_behind_the_position_stays(tmp_path: Path) -> None:
    first = Index(tmp_path)
    first.open()
    first.add([(number, record(number)) for number in range(4)])
    first.commit((0, 0))  # the position is that of the second
    first.close()
    again = Index(tmp_path)
    again.open()
    again.add([(number, record(number)) for number in range(2, 6)])
    again.commit((0, 9))

    assert found(again, "") == [f"r{number}" for number in range(5, -1, -1)]
    again.close()


def test_pages_are_by_key_also_at_equal_times(index: Index) -> None:
    fill(index, *(record(number, time_ns=NOON) for number in range(25)))
    seen: list[str] = []
    before = None
    while page := index.search(ACME, All(), Window(before=before), 10):
        seen += [one.record.record for one in page]
        before = page[-1].key

    assert sorted(seen) == sorted(f"r{number}" for number in range(25))


def test_a_window_has_its_begin_and_not_its_end(index: Index) -> None:
    fill(index, *(record(number) for number in range(5)))
    window = Window(NOON + 1_000_000, NOON + 3_000_000)

    assert found(index, "", window=window) == ["r2", "r1"]


@pytest.mark.parametrize(
    ("window", "ids"),
    [
        (Window(since=NOON + 3_000_000), ["r4", "r3"]),
        (Window(until=NOON + 1_000_000), ["r0"]),
        (Window(NOON, NOON), []),
    ],
)
def test_a_window_may_be_open_on_a_side(index: Index, window: Window, ids: list[str]) -> None:
    fill(index, *(record(number) for number in range(5)))

    assert found(index, "", window=window) == ids
    assert index.total(ACME, All(), window) == len(ids)


def test_a_page_of_large_records_is_short(index: Index) -> None:
    fill(index, *(record(number, text="x" * 2_000_000) for number in range(4)))

    assert 1 <= len(found(index, "", limit=4)) < 4


def test_records_are_counted_by_time_and_value(index: Index) -> None:
    spans = [record(n, time_ns=NOON + n * 10**9, status=str(n % 2), duration_ms=float(n)) for n in range(120)]
    fill(index, *spans, record(999, kind="span", time_ns=NOON))

    plain = index.count(ACME, parse("kind:log"), EVERYTHING, 60, "", 100)
    assert [bucket.count for bucket in plain] == [60, 60]
    assert [bucket.start % 60 for bucket in plain] == [0, 0]
    split = index.count(ACME, parse("kind:log"), EVERYTHING, 60, "status", 100)
    assert [(bucket.value, bucket.count) for bucket in split] == [("0", 30), ("1", 30)] * 2
    assert plain[0].p50_ms == pytest.approx(29.5, abs=1.5)
    assert plain[0].p99_ms == pytest.approx(59, abs=1.5)


def test_a_record_without_a_duration_has_no_quantiles(index: Index) -> None:
    fill(index, record(0))

    (bucket,) = index.count(ACME, All(), EVERYTHING, 60, "version", 100)
    assert (bucket.value, bucket.p50_ms, math.isnan(bucket.p99_ms)) == ("0", 0.0, False)


def test_too_many_buckets_are_refused(index: Index) -> None:
    fill(index, *(record(number, time_ns=NOON + number * 10**9) for number in range(20)))

    with pytest.raises(Failure) as caught:
        index.count(ACME, All(), EVERYTHING, 1, "", 10)
    assert caught.value.code is Code.QUERY_TOO_COSTLY


def test_of_many_values_none_is_left_out(index: Index) -> None:
    fill(index, *(record(number, name=f"n{number}", time_ns=NOON) for number in range(1100)))

    assert sum(bucket.count for bucket in index.count(ACME, All(), EVERYTHING, 60, "name", 1100)) == 1100
    with pytest.raises(Failure) as caught:
        index.count(ACME, All(), EVERYTHING, 60, "name", 1099)
    assert caught.value.code is Code.QUERY_TOO_COSTLY


def test_an_index_is_opened_where_it_ended(tmp_path: Path) -> None:
    first = Index(tmp_path)
    assert first.open() == (0, 0)
    fill(first, record(0))
    first.commit((7, 42))
    first.close()

    again = Index(tmp_path)
    assert again.open() == (7, 42)
    assert found(again, "") == ["r0"]
    again.close()


def test_an_index_of_another_schema_is_taken_away_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    for name in ("v1/meta.json", "v1.position", "records.seg"):
        (tmp_path / name).write_bytes(b"old")
    made = Index(tmp_path)
    made.open()
    fill(made, record(0))
    made.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["records.seg", "v4", "v4.position"]


def reopened(folder: Path, broken: str) -> Index:
    """An index with one record whose file `broken` became unreadable, opened again."""
    first = Index(folder)
    first.open()
    fill(first, record(0))
    first.commit((7, 42))
    first.close()
    (folder / broken).write_bytes(b"\0garbage")
    again = Index(folder)
    assert again.open() == (0, 0)
    return again


def test_an_index_that_cannot_be_read_begins_anew(tmp_path: Path) -> None:
    again = reopened(tmp_path, "v4/meta.json")
    fill(again, record(1))

    assert found(again, "") == ["r1"]
    again.close()


@pytest.mark.parametrize("kind", ["fast", "fieldnorm", "idx", "pos", "store", "term"])
def test_an_index_that_was_taken_away_in_part_begins_anew(tmp_path: Path, kind: str) -> None:
    index = Index(tmp_path)
    index.open()
    fill(index, record(0))
    index.close()
    for path in (tmp_path / "v4").glob(f"*.{kind}"):
        path.unlink()

    again = Index(tmp_path)
    assert again.open() == (0, 0)
    assert found(again, "") == []
    fill(again, record(0), record(1))
    assert found(again, "") == ["r1", "r0"]
    again.close()


def test_an_index_that_lost_its_place_serves_on_and_takes_records_again(tmp_path: Path) -> None:
    again = reopened(tmp_path, "v4.position")
    assert found(again, "") == ["r0"]
    fill(again, record(0), record(1))

    assert found(again, "") == ["r1", "r0"]
    again.close()


@pytest.mark.parametrize("time_ns", [-5, 0, 2**63 - 1])
def test_odd_times_are_no_bug(index: Index, time_ns: int) -> None:
    fill(index, record(0, time_ns=time_ns))

    assert found(index, "") == ["r0"]
