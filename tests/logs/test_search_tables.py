"""Tables in the index: found as the records would be that they are made of."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.logs.domain import Record
from services.logs.search.domain import All, Field, Query, Range, Words, matches, parse, rest
from services.logs.search.index import Index, Window
from services.logs.tables import Table, records_of, size
from tests.logs.queries import PHASES, trees
from tests.logs.records import NOON, record, request_id, table

ACME, RIVAL = Scope("acme"), Scope("rival")
EVERYTHING = Window()
IDS = [request_id(number) for number in (0, 1, 5, 9, 30)]
STARTS = [one[:end] for one in IDS for end in (0, 8, 12, 13, 18, 19, 36)] + ["9", "0192ab01"]
LEAVES: st.SearchStrategy[Query] = st.one_of(
    st.sampled_from(
        [
            Words(("late",)),
            Words(("pre",), True),
            Words(("absent",)),
            Field("kind", "prediction"),
            Field("model", "late"),
            Field("model", "other"),
            Field("attributes.rows", "1"),
            Range("version", 2, None),
            Range("status", None, 300),
        ]
    ),
    st.builds(Field, st.just("request_id"), st.sampled_from(STARTS), st.booleans()),
    st.builds(Field, st.just("trace_id"), st.sampled_from([one.replace("-", "") for one in STARTS]), st.booleans()),
    st.builds(
        Range,
        st.just("duration_ms"),
        st.none() | st.sampled_from([0.0, 1.0, 5.0, 9.5]),
        st.none() | st.sampled_from([0.0, 4.0, 5.0, 20.0]),
        st.booleans(),
        st.booleans(),
    ),
)
QUERIES = trees(LEAVES)
BOUND = st.none() | st.sampled_from([NOON + 1_000 * place for place in (0, 2, 6, 40)])
KEPT: list[Record | Table] = [
    table(6),
    record(99, text="late", time_ns=NOON + 3_500),
    table(4, 6, model="other"),
    table(9, 10, version=1),
]


def changed(number: int, **columns: Any) -> Table:
    """Two predictions from a number on, with other columns."""
    one = table(2, number)
    return Table(one.like, number, one.columns._replace(**columns))


def fill(index: Index, *kept: Record | Table) -> list[Record]:
    """The records that are in the index then, oldest first."""
    number = 0
    for one in kept:
        index.add([(number, one)])
        number += size(one)
    index.commit((0, 0))
    return sorted((one._replace(scores=b"") for one in records_of(kept)), key=lambda one: one.time_ns)


@pytest.fixture(scope="module")
def filled(shared: Index) -> tuple[Index, list[Record]]:
    return shared, fill(shared, *KEPT)


def wanted(records: list[Record], query: Query, window: Window) -> list[Record]:
    """Newest first."""
    low, high = window.since or 0, window.until or 2**63
    return [one for one in reversed(records) if low <= one.time_ns < high and matches(query, one)]


@settings(max_examples=300, phases=PHASES)
@given(query=QUERIES, since=BOUND, until=BOUND, limit=st.integers(1, 25))
def test_what_is_in_tables_is_found_and_counted_as_a_filter_says(
    filled: tuple[Index, list[Record]], query: Query, since: int | None, until: int | None, limit: int
) -> None:
    index, records = filled
    window = Window(since, until)
    expected = wanted(records, query, window)

    assert [one.record for one in index.search(ACME, query, window, limit)] == expected[:limit]
    assert index.total(ACME, query, window) == len(expected)
    for split in ("", "model", "version"):
        buckets = index.count(ACME, query, window, 60, split, 100)
        values = {str(getattr(one, split)) if split else "" for one in expected}
        assert {bucket.value: bucket.count for bucket in buckets} == {
            value: sum(1 for one in expected if not split or str(getattr(one, split)) == value) for value in values
        }


@settings(max_examples=200, phases=PHASES)
@given(query=QUERIES)
def test_what_a_query_leaves_to_ask_says_the_same(query: Query) -> None:
    for one in KEPT:
        if isinstance(one, Table):
            asked = rest(query, one.like)
            assert [matches(asked, row) for row in one.records()] == [matches(query, row) for row in one.records()]


def test_a_tenant_sees_his_own_tables_only(index: Index) -> None:
    fill(index, table(3), table(2, 3, tenant="rival"), table(2, 5, project="other"))

    assert [one.record.record for one in index.search(RIVAL, All(), EVERYTHING, 9)] == ["p00000004", "p00000003"]
    assert (index.total(ACME, All(), EVERYTHING), index.total(RIVAL, All(), EVERYTHING)) == (3, 2)
    assert index.search(ACME, Field("request_id", request_id(4)), EVERYTHING, 9) == []


def test_pages_go_through_tables_that_lie_about_each_other(index: Index) -> None:
    turns = [range(start, 200, 4) for start in range(4)]
    whole = table(200)
    parts = [Table(whole.like._replace(record=f"t{at}-"), 0, whole.columns.at(turn)) for at, turn in enumerate(turns)]
    records = fill(index, *parts, *(record(number, time_ns=NOON + number * 9_000 + 1) for number in range(20)))
    seen: list[str] = []
    before = None
    while page := index.search(ACME, All(), Window(before=before), 7):
        seen += [one.record.record for one in page]
        before = page[-1].key

    assert seen == [one.record for one in reversed(records)]


def test_more_tables_than_are_read_at_once_are_all_found(index: Index) -> None:
    fill(index, *(table(2, 2 * number) for number in range(170)))
    odd = parse(f"duration_ms:<{2**20} AND NOT duration_ms:7 AND NOT request_id:{request_id(8)}")

    assert (index.total(ACME, odd, EVERYTHING), len(index.search(ACME, odd, EVERYTHING, 999))) == (338, 338)


@pytest.mark.parametrize(
    "ask",
    [
        lambda index, query, over: index.search(ACME, query, EVERYTHING, 9, over),
        lambda index, query, over: index.total(ACME, query, EVERYTHING, over),
        lambda index, query, over: index.count(ACME, query, EVERYTHING, 60, "", 100, over),
    ],
    ids=["search", "total", "count"],
)
def test_what_nobody_waits_for_is_asked_of_no_more_tables(
    index: Index, ask: Callable[[Index, Query, Callable[[], bool]], object]
) -> None:
    fill(index, *(changed(2 * number, durations=[0.0, 1.0]) for number in range(99)))
    looks = iter([False] * 7 + [True])
    with pytest.raises(Failure) as caught:
        ask(index, parse("duration_ms:0 AND duration_ms:1"), lambda: next(looks))

    assert caught.value.code is Code.CANCELLED
    assert list(looks) == []


def test_more_buckets_of_parts_than_are_wanted_are_refused(index: Index) -> None:
    fill(index, *(changed(2 * second, times=[NOON + second * 10**9] * 2) for second in range(9)))
    even = parse(" OR ".join(f"duration_ms:{2 * second}" for second in range(9)))

    assert len(index.count(ACME, even, EVERYTHING, 1, "", 9)) == 9
    with pytest.raises(Failure) as caught:
        index.count(ACME, even, EVERYTHING, 1, "", 8)
    assert caught.value.code is Code.QUERY_TOO_COSTLY


def test_a_page_of_large_tables_is_short(index: Index) -> None:
    fill(index, table(8, text="x " * 500_000))

    assert 1 <= len(index.search(ACME, All(), EVERYTHING, 8)) < 8


def test_durations_of_tables_count_with_those_of_others(index: Index) -> None:
    fill(index, table(100), *(record(number, time_ns=NOON, duration_ms=1000.0) for number in range(100)))

    (whole,) = index.count(ACME, All(), EVERYTHING, 60, "", 100)
    assert [whole.count, whole.p50_ms, whole.p99_ms] == pytest.approx([200, 99, 1000], rel=0.02)


@pytest.mark.parametrize("asked", ["duration_ms:>=50", "duration_ms:>=50 OR kind:log"])
def test_durations_of_parts_of_tables_count_with_those_of_others(index: Index, asked: str) -> None:
    fill(index, table(100), *(record(number, time_ns=NOON, duration_ms=1000.0) for number in range(100)))

    (part,) = index.count(ACME, parse(asked), EVERYTHING, 60, "", 100)
    assert [part.count, part.p99_ms] == pytest.approx([150, 1000], rel=0.02)
    (own,) = index.count(ACME, parse("duration_ms:>=50 AND kind:prediction"), EVERYTHING, 60, "", 100)
    assert [own.count, own.p50_ms, own.p99_ms] == pytest.approx([50, 74, 99], abs=1)


def test_a_table_that_is_added_again_is_there_once(index: Index) -> None:
    fill(index, table(3))
    fill(index, table(3))

    assert index.total(ACME, All(), EVERYTHING) == 3
    assert len(index.search(ACME, All(), EVERYTHING, 9)) == 3
