"""What is expected of new rows: set, learned, and done when a version is written."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from aimass.v1 import datasets_pb2 as data
from aimass.v1 import expectations_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.expectations_pb2_grpc import ExpectationsStub
from services.kit.errors import Code, Failure
from tests.data.tables import SCOPE, add, data_sets, written
from tests.support.house import House, house
from tests.support.refused import refused

GOOD = {"id": list(range(100)), "office": ["Oslo", "Moss"] * 50, "weight": [float(n) for n in range(100)]}
BLOCK, WARN, ASIDE = (getattr(pb, f"EXPECTATION_ACTION_{name}") for name in ("BLOCK", "WARN", "QUARANTINE"))
NOT_NULL, RANGE, VALUES, UNIQUE, ROW_COUNT, MISSING = pb.ExpectationKind.values()[1:]


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data") as running:
        await add(running, "parcels", {"id": [1], "office": ["Oslo"], "weight": [1.0]}, append=True)
        yield running


@pytest.fixture
def stub(home: House) -> Any:
    return home.stub(ExpectationsStub, "data")


def expect(column: str, kind: int, action: int = ASIDE, **more: Any) -> pb.Expectation:
    return pb.Expectation(column=column, kind=pb.ExpectationKind.Name(kind), action=action, **more)  # type: ignore[arg-type]


async def set_all(stub: Any, *items: pb.Expectation, etag: str = "") -> Any:
    metadata = [("if-match", etag)] if etag else []
    request = pb.SetExpectationsRequest(data_set="parcels", expectations=items)
    return await stub.SetExpectations(request, metadata=metadata)


async def checks(stub: Any) -> list[Any]:
    return list((await stub.ListChecks(pb.ListChecksRequest(data_set="parcels"))).checks)


async def ids(home: House) -> list[int]:
    rows = await home.stub(DataSetsStub, "data").ReadRows(data.ReadRowsRequest(data_set="parcels"))
    return [int(row["id"]) for row in rows.rows]


BROKEN: list[tuple[str, pb.Expectation, list[int], str]] = [
    ("not-null", expect("weight", NOT_NULL), [4], "weight is never NULL"),
    ("range", expect("weight", RANGE, minimum="0", maximum="10.5"), [3, 5], "weight is at least 0 and at most 10.5"),
    ("least", expect("id", RANGE, minimum="4"), [2, 3, 2], "id is at least 4"),
    ("values", expect("office", VALUES, values=["Oslo", "Bergen"]), [3], "office is one of 2 values"),
    ("unique", expect("id", UNIQUE), [2], "id is unique"),
    ("days", expect("day", RANGE, maximum="2020-01-02"), [5], "day is at most 2020-01-02"),
]


@pytest.mark.parametrize(("expected", "wrong", "reason"), [case[1:] for case in BROKEN], ids=[c[0] for c in BROKEN])
async def test_rows_that_break_an_expectation_are_put_aside(
    home: House, stub: Any, expected: pb.Expectation, wrong: list[int], reason: str
) -> None:
    days = [date(2020, 1, 1)] * 4 + [date(2020, 1, 3)]
    rows = {
        "id": [2, 3, 4, 5, 2],
        "office": ["Oslo", "Moss", None, "Bergen", "Oslo"],
        "weight": [1.0, float("nan"), None, -1.0, 2.0],
        "day": pa.array([days[0], None, days[0], days[4], days[0]], pa.date32()),
    }
    if expected.column != "id" or expected.kind == RANGE:
        rows["id"] = [2, 3, 4, 5, 2] if expected.column == "id" else [2, 3, 4, 5, 6]
    await add(home, "parcels", pa.table({**rows, "id": [20, 21, 22, 23, 24]}))  # so that it has all columns
    await set_all(stub, expected)
    made = await add(home, "parcels", pa.table(rows), broken=[("{}", "no number", "a:9")])
    stub_of_rows = home.stub(DataSetsStub, "data")
    quarantined = (await stub_of_rows.ListQuarantine(data.ListQuarantineRequest(data_set="parcels"))).rows

    kept = [number for number in rows["id"] if number not in wrong]
    kept = [2, *kept] if expected.kind == UNIQUE else kept
    assert await ids(home) == kept == await _delta(home)
    assert (made.rows, made.quality.rows) == (len(kept), len(kept))
    assert dict(made.quality.quarantined) == {"no number": 1, f"expected: {reason}": 5 - len(kept)}
    assert [row.reason for row in quarantined] == ["no number"] + [f"expected: {reason}"] * (5 - len(kept))
    assert made.quality.columns[0].distinct == len(set(kept))
    (check, *_) = await checks(stub)
    assert (check.version, check.action, check.results[0].failed) == (3, ASIDE, 5 - len(kept))


async def _delta(home: House) -> list[int]:
    table = DeltaTable((await data_sets(home).locate(SCOPE, "parcels")).uri)
    return sorted(pa.table(table.to_pyarrow_table())["id"].to_pylist())


async def test_a_value_that_an_old_row_has_is_not_unique(home: House, stub: Any) -> None:
    await set_all(stub, expect("id", UNIQUE))
    made = await add(home, "parcels", {"id": [1, 2, 3], "office": ["A", "B", "C"]}, append=True)
    again = await add(home, "parcels", {"id": [1, 2], "office": ["A", "B"]}, append=False)

    assert (made.rows, made.rows_added, await ids(home)) == (3, 2, [1, 2])
    assert dict(made.quality.quarantined) == {"expected: id is unique": 1}
    assert (again.rows, dict(again.quality.quarantined)) == (2, {})


async def test_a_version_that_is_blocked_is_not_written_and_is_in_the_history(home: House, stub: Any) -> None:
    await set_all(stub, expect("weight", RANGE, BLOCK, maximum="10"), expect("id", NOT_NULL))
    new = await written(home, "parcels", {"id": [2, None], "weight": [11.0, 3.0]}, append=True)
    with pytest.raises(Failure, match="parcels expects that weight is at most 10: 1 of 2") as caught:
        await data_sets(home).commit(SCOPE, new)
    fine = await add(home, "parcels", {"id": [3], "weight": [10.0]}, append=True)
    good, bad = await checks(stub)

    assert caught.value.code is Code.FAILED_PRECONDITION
    assert (fine.version, await ids(home)) == (2, [1, 3])
    assert [(c.version, c.run == new.run, c.action) for c in (bad, good)] == [(0, True, BLOCK), (2, False, 0)]
    assert [(r.expectation.column, r.failed, r.found) for r in bad.results] == [
        ("weight", 1, "1 of 2"), ("id", 1, "1 of 2")
    ]  # fmt: skip


async def test_a_warning_is_in_the_quality_report(home: House, stub: Any) -> None:
    await set_all(
        stub,
        expect("", ROW_COUNT, WARN, minimum="3", maximum="5"),
        expect("weight", MISSING, WARN, fraction=0.25),
        expect("office", VALUES, WARN, values=["Oslo"]),
    )
    made = await add(home, "parcels", {"id": [2, 3], "office": ["Oslo", "Oslo"], "weight": [None, 1.0]})
    fine = await add(home, "parcels", {"id": [2, 3, 4, 5], "office": [None] * 4, "weight": [None, 1.0, 2.0, 3.0]})
    found = await home.stub(DataSetsStub, "data").GetDataSetVersion(
        data.GetDataSetVersionRequest(data_set="parcels", version=2)
    )

    assert list(found.quality.warnings) == [
        "a version adds at least 3 and at most 5 rows: 2 rows",
        "at most 25.00% of weight are NULL: 1 of 2",
    ]
    assert (made.rows, fine.quality.warnings) == (2, ())


async def test_counts_of_rows_are_without_those_that_were_put_aside(home: House, stub: Any) -> None:
    await set_all(
        stub,
        expect("id", NOT_NULL),
        expect("", ROW_COUNT, BLOCK, minimum="1"),
        expect("weight", MISSING, BLOCK, fraction=0),
    )
    made = await add(home, "parcels", {"id": [2, None], "weight": [1.0, None]})

    assert made.rows == 1
    with pytest.raises(Failure, match="a version adds at least 1 rows: 0 rows"):
        await add(home, "parcels", {"id": pa.array([None], pa.int64()), "weight": [1.0]})


async def test_a_run_is_looked_at_once_also_after_a_crash(home: House, stub: Any) -> None:
    await set_all(stub, expect("weight", NOT_NULL))
    new = await written(home, "parcels", {"id": [2, 3], "weight": [1.0, None]}, "r7", append=True)

    def end(connection: Any, version: Any) -> None:
        raise Failure(Code.CANCELLED, "killed")

    with pytest.raises(Failure, match="killed"):
        await data_sets(home).commit(SCOPE, new, end)
    recovered = await data_sets(home).recover(SCOPE, "parcels", "r7")
    assert recovered
    made = await data_sets(home).commit(SCOPE, recovered)
    again = await data_sets(home).commit(SCOPE, recovered)

    assert (made.rows_added, dict(made.quality.quarantined)) == (1, {"expected: weight is never NULL": 1})
    assert (again.version, await ids(home), await _delta(home)) == (2, [1, 2], [1, 2])
    assert [check.version for check in await checks(stub)] == [2]


async def test_going_back_is_not_looked_at(home: House, stub: Any) -> None:
    await add(home, "parcels", {"id": [5], "office": ["A"], "weight": [2.0]})
    await set_all(stub, expect("weight", RANGE, BLOCK, minimum="2"))
    etag = (await data_sets(home).get(SCOPE, "parcels")).generation
    back = data.RollBackDataSetRequest(data_set="parcels", version=1)
    made = await home.stub(DataSetsStub, "data").RollBackDataSet(back, metadata=[("if-match", str(etag))])

    assert (made.version, await ids(home), await checks(stub)) == (3, [1], [])


async def test_expectations_are_replaced_by_who_has_seen_them(home: House, stub: Any) -> None:
    first = await set_all(stub, expect("id", NOT_NULL))
    again = await set_all(stub, expect("id", NOT_NULL))

    assert (first, await stub.GetExpectations(pb.GetExpectationsRequest(data_set="parcels"))) == (again, first)
    assert (await refused(set_all(stub, expect("id", UNIQUE)))).code is Code.ETAG_REQUIRED
    assert (await refused(set_all(stub, etag="7"))).code is Code.ETAG_MISMATCH
    assert list((await set_all(stub, etag=first.etag)).expectations) == []
    missing = pb.GetExpectationsRequest(data_set="nosuch")
    assert (await refused(stub.GetExpectations(missing))).code is Code.NOT_FOUND


WRONG: list[tuple[str, pb.Expectation, str]] = [
    ("kind", pb.Expectation(column="id", action=WARN), "kind"),
    ("action", pb.Expectation(column="id", kind=NOT_NULL), "action"),
    ("column", expect("nosuch", NOT_NULL), "column"),
    ("no-column", expect("", NOT_NULL), "column"),
    ("a-column", expect("id", ROW_COUNT, WARN, minimum="1"), "column"),
    ("text-range", expect("office", RANGE, minimum="1"), "column"),
    ("no-bounds", expect("id", RANGE), "minimum"),
    ("no-number", expect("id", RANGE, minimum="1.5"), "minimum"),
    ("infinite", expect("weight", RANGE, maximum="inf"), "maximum"),
    ("swapped", expect("id", RANGE, minimum="2", maximum="1"), "minimum"),
    ("large", expect("id", RANGE, minimum=str(2**63)), "minimum"),
    ("no-values", expect("office", VALUES), "values"),
    ("wrong-value", expect("id", VALUES, values=["1", "x"]), "values/1"),
    ("doubles", expect("weight", UNIQUE), "column"),
    ("no-row", expect("", ROW_COUNT, ASIDE, minimum="1"), "action"),
    ("no-row-either", expect("id", MISSING, ASIDE, fraction=0.1), "action"),
    ("negative", expect("", ROW_COUNT, WARN, minimum="-1"), "minimum"),
    ("fraction", expect("id", MISSING, WARN, fraction=1.5), "fraction"),
    ("nan", expect("id", MISSING, WARN, fraction=float("nan")), "fraction"),
]


async def test_an_expectation_that_means_nothing_is_refused(home: House, stub: Any) -> None:
    for name, item, field in WRONG:
        failure = await refused(set_all(stub, expect("id", NOT_NULL), item))
        assert failure.code is Code.INVALID_VALUE, name
        assert failure.violations[0].pointer == f"/expectations/1/{field}", name


async def test_expectations_are_learned_from_a_good_version_and_hold_for_it(home: House, stub: Any) -> None:
    rows = GOOD | {"note": ["x", None] * 50, "day": pa.array([date(2020, 1, 1)] * 100, pa.date32())}
    await add(home, "parcels", pa.table(rows))
    found = await stub.LearnExpectations(pb.LearnExpectationsRequest(data_set="parcels"))
    by = {(item.column, pb.ExpectationKind.Name(item.kind)[17:]): item for item in found.expectations}

    assert {column: [kind for of, kind in by if of == column] for column, _ in by} == {
        "": ["ROW_COUNT"],
        "id": ["NOT_NULL", "RANGE", "UNIQUE"],
        "office": ["NOT_NULL", "VALUES"],
        "weight": ["NOT_NULL", "RANGE"],
        "note": ["MISSING", "VALUES"],
        "day": ["NOT_NULL"],
    }
    assert {item.action for item in found.expectations} == {WARN}
    assert (by["", "ROW_COUNT"].minimum, by["", "ROW_COUNT"].maximum) == ("50", "200")
    assert (by["id", "RANGE"].minimum, by["id", "RANGE"].maximum) == ("0", "108")
    assert by["weight", "RANGE"].minimum == "0.0"
    assert float(by["weight", "RANGE"].maximum) == pytest.approx(108.9)
    assert list(by["office", "VALUES"].values) == ["Moss", "Oslo"]
    assert by["note", "MISSING"].fraction == pytest.approx(0.5 + 3 * (0.25 / 100) ** 0.5)
    await set_all(stub, *found.expectations)
    assert (await add(home, "parcels", pa.table(rows))).quality.warnings == ()
    worse = await add(home, "parcels", pa.table(rows | {"office": ["Bergen"] * 100}))
    assert worse.quality.warnings == ("office is one of 2 values: 100 of 100",)


async def test_a_column_that_became_another_type_breaks_what_was_expected_of_it(home: House, stub: Any) -> None:
    await set_all(stub, expect("id", RANGE, BLOCK, minimum="1"))

    with pytest.raises(Failure, match="parcels expects that id is at least 1: 2 of 3"):
        await add(home, "parcels", {"id": ["a", "b", None]})


async def test_files_that_were_written_anew_are_gone(home: House, stub: Any) -> None:
    await set_all(stub, expect("weight", NOT_NULL))
    new = await written(home, "parcels", {"id": [2, 3], "weight": [1.0, None]}, "r7", append=True)
    await data_sets(home).commit(SCOPE, new)
    folder = data_sets(home).folder(SCOPE, "parcels", "r7")

    assert sorted(path.name for path in folder.glob("*.parquet")) == ["_broken-00000.parquet", "kept-00000.parquet"]
