"""The feature store through its RPCs: made, materialised by real children, read by key."""

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aimass.v1 import datasets_pb2
from aimass.v1 import feature_views_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from services.kit.errors import Code, Failure
from tests.data.tables import add
from tests.data.views import (
    EXPIRED,
    FOUND,
    MISSING,
    create,
    definition,
    ended,
    hours_ago,
    materialise,
    plain,
    read,
    reads,
    request,
    values,
    views,
)
from tests.support.house import House, house
from tests.support.refused import code_of


@pytest.fixture(params=["database", pytest.param("redis", marks=pytest.mark.far)])
async def running(home: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """Features are read in the database, or in Redis, where nothing is lacking, so that it answers all reads."""
    if far := request.param == "redis":
        from services.data.feature_views.online import far as store

        monkeypatch.setattr(store, "READ", 5.0)  # a busy machine takes its time
    env = {"AIMASS_DATA_FEATURES_URL": request.getfixturevalue("redis_server").address} if far else {}
    async with house(home, "data", **env) as found:
        before = reads("database")
        yield found
        assert not far or reads("database") == before


def readings(*rows: tuple[str | None, datetime | None, float | None, str | None]) -> pa.Table:
    sensors, times, temps, states = zip(*rows, strict=True)
    return pa.table(
        {
            "sensor": pa.array(sensors, pa.string()),
            "at": pa.array(times, pa.timestamp("us", tz="UTC")),
            "temp": pa.array(temps, pa.float64()),
            "state": pa.array(states, pa.string()),
        }
    )


async def test_the_newest_row_of_each_entity_is_read_with_its_time_and_age(running: House) -> None:
    last = hours_ago(1)
    await add(
        running, "readings", readings(("a", hours_ago(3), 1.0, "old"), ("b", last, 2.5, None), ("a", last, 9.0, "on"))
    )
    made = await create(running)
    assert (made.latest_version, made.serving_version) == (1, 0)
    with pytest.raises(Failure) as refused:
        await read(running, "a")
    assert refused.value.code is Code.FAILED_PRECONDITION

    done = await materialise(running)
    found = await read(running, "a", "b", "c")

    assert (done.rows, done.version, done.data_set_version) == (3, 1, 1)
    assert (found.version, list(found.features)) == (1, ["temp", "state"])
    assert [row.state for row in found.rows] == [FOUND, FOUND, MISSING]
    assert found.rows[0].event_time.ToDatetime(tzinfo=UTC) == last
    assert 3600 <= found.rows[0].age.seconds < 3700
    assert await values(running, "a", "b", "c") == [[9.0, "on"], [2.5, None], None]
    assert await values(running, "a", features=["state"]) == [["on"]]


async def test_rows_that_come_late_never_replace_newer_ones_and_a_range_is_filled_in(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "new")), append=True)
    await create(running)
    await materialise(running)
    await add(
        running, "readings", readings(("a", hours_ago(5), 2.0, "late"), ("b", hours_ago(5), 3.0, "late")), append=True
    )
    span = Timestamp(), Timestamp()
    for stamp, hours in zip(span, (6, 4), strict=True):
        stamp.FromDatetime(hours_ago(hours))

    filled = await materialise(running, since=span[0], until=span[1])

    assert (filled.rows, filled.rows_out_of_range) == (2, 1)
    assert await values(running, "a", "b") == [[1.0, "new"], [3.0, "late"]]


async def test_a_second_run_reads_only_what_is_new_and_changes_nothing_else(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(2), 1.0, "x")), append=True)
    await create(running)
    assert (await materialise(running)).rows == 1
    assert (await materialise(running)).rows == 0
    await add(running, "readings", readings(("a", hours_ago(1), 5.0, "y"), ("b", hours_ago(1), 6.0, "y")), append=True)

    assert (await materialise(running)).rows == 2
    assert await values(running, "a", "b") == [[5.0, "y"], [6.0, "y"]]


async def test_of_rows_with_one_time_the_last_counts(running: House) -> None:
    at = hours_ago(1)
    await add(running, "readings", readings(("a", at, 1.0, "first"), ("a", at, 2.0, "second")), append=True)
    await create(running)
    await materialise(running)
    assert await values(running, "a") == [[2.0, "second"]]
    await add(running, "readings", readings(("a", at, 3.0, "third")), append=True)
    await materialise(running)

    assert await values(running, "a") == [[3.0, "third"]]


async def test_rows_of_the_future_wait_until_their_time_has_come(running: House) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    rows = readings(
        ("a", hours_ago(1), 1.0, "now"), ("a", soon, 2.0, "planted"), (None, soon, 0.0, ""), ("b", None, 0.0, "")
    )
    await add(running, "readings", rows)
    await create(running)

    done = await materialise(running)
    assert (done.rows, done.future_rows, done.rows_without_key) == (1, 1, 2)
    assert await values(running, "a") == [[1.0, "now"]]
    found = await views(running).GetFeatureViewVersion(pb.GetFeatureViewVersionRequest(feature_view="sensors"))
    assert (found.data_set_version, found.HasField("versions_behind")) == (0, False)

    while datetime.now(UTC) <= soon:
        await asyncio.sleep(0.1)
    assert (await materialise(running)).future_rows == 0
    assert await values(running, "a") == [[2.0, "planted"]]


async def test_rows_expire(running: House) -> None:
    await add(running, "readings", readings(("old", hours_ago(3), 1.0, "x"), ("new", hours_ago(1), 2.0, "x")))
    await create(running, time_to_live="7200s")
    await materialise(running)

    found = await read(running, "old", "new")

    assert [row.state for row in found.rows] == [EXPIRED, FOUND]
    assert not found.rows[0].values
    assert found.rows[0].age.seconds >= 3 * 3600


async def test_a_new_version_is_read_once_it_is_materialised_and_the_old_one_stays(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x")))
    await create(running)
    await materialise(running)
    next_one = pb.CreateFeatureViewVersionRequest(feature_view="sensors", definition=definition(features=["state"]))
    assert (await views(running).CreateFeatureViewVersion(next_one)).version == 2
    assert list((await read(running, "a")).features) == ["temp", "state"]
    with pytest.raises(Failure) as refused:
        await read(running, "a", version=2)
    assert refused.value.code is Code.FAILED_PRECONDITION

    await materialise(running)

    assert list((await read(running, "a", version=2)).features) == ["state"]
    assert list((await read(running, "a", version=1)).features) == ["temp", "state"]
    found = await views(running).GetFeatureView(pb.GetFeatureViewRequest(feature_view="sensors"))
    assert (found.latest_version, found.serving_version) == (2, 2)


async def test_no_reader_sees_half_of_two_versions(running: House) -> None:
    names = [f"s{number}" for number in range(20)]
    await add(running, "readings", readings(*((name, hours_ago(1), 1.0, "x") for name in names)))
    await create(running)
    await materialise(running)
    seen, done = set[tuple[int, tuple[str, ...], str]](), asyncio.Event()

    async def look() -> None:
        while not done.is_set():
            found = await read(running, *names)
            rows = {str([plain(value) for value in row.values]) for row in found.rows}
            assert len(rows) == 1
            seen.add((found.version, tuple(found.features), rows.pop()))

    looking = [asyncio.ensure_future(look()) for _ in range(4)]
    again = pb.CreateFeatureViewVersionRequest(feature_view="sensors", definition=definition(features=["state"]))
    await views(running).CreateFeatureViewVersion(again)
    await materialise(running)
    while not any(version == 2 for version, *_ in seen):  # the view is remembered for a second
        await asyncio.sleep(0.05)
    done.set()
    await asyncio.gather(*looking)

    assert seen == {(1, ("temp", "state"), "[1.0, 'x']"), (2, ("state",), "['x']")}


async def test_freshness_and_lag_are_told(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x")), append=True)
    await create(running)
    await materialise(running)
    for _ in range(2):
        await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x")), append=True)

    request = pb.GetFeatureViewVersionRequest(feature_view="sensors")
    found = await views(running).GetFeatureViewVersion(request)
    assert (found.data_set_version, found.versions_behind) == (1, 2)
    assert 3600 <= found.age.seconds < 3700
    assert found.lag.seconds < 60
    assert found.lag.ToTimedelta() > timedelta(0)

    await materialise(running)
    found = await views(running).GetFeatureViewVersion(request)
    assert (found.data_set_version, found.versions_behind, found.lag.ToTimedelta()) == (3, 0, timedelta(0))


async def test_keys_of_several_columns_and_all_types_are_found(running: House) -> None:
    table = pa.table(
        {
            "name": ["ä\u2028", "b"],
            "number": pa.array([2**62, -3], pa.int64()),
            "flag": [True, False],
            "day": pa.array([datetime(2030, 1, 31).date(), datetime(1999, 12, 1).date()], pa.date32()),
            "known": pa.array([hours_ago(1), hours_ago(1)], pa.timestamp("us", tz="UTC")),
            "big": pa.array([2**60, None], pa.int64()),
            "odd": [math.nan, -math.inf],
        }
    )
    await add(running, "mixed", table)
    keys = ["name", "number", "flag", "day"]
    await create(running, "mixed", data_set="mixed", keys=keys, event_time="known", features=["big", "odd", "known"])
    await materialise(running, "mixed")

    first, second = ["ä\u2028", str(2**62), True, "2030-01-31"], ["b", -3, False, "1999-12-01"]
    found = await values(running, first, second, ["b", -3, True, "1999-12-01"], name="mixed")

    assert found[0][:2] == [str(2**60), "NaN"]
    assert found[1][:2] == [None, "-Infinity"]
    assert found[2] is None


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"keys": ["nothing"]}, "/definition/keys/0"),
        ({"keys": ["temp"]}, "/definition/keys/0"),
        ({"keys": ["sensor", "sensor"]}, "/definition/keys/1"),
        ({"event_time": "temp"}, "/definition/event_time"),
        ({"features": ["nothing"]}, "/definition/features/0"),
        ({"features": ["temp", "temp"]}, "/definition/features/1"),
        ({"features": []}, "/definition/features"),
        ({"time_to_live": "-1s"}, "/definition/time_to_live"),
        ({"time_to_live": "0s"}, "/definition/time_to_live"),
        ({"feature_set_version": 1}, "/definition/feature_set_version"),
    ],
)
async def test_a_definition_that_makes_no_sense_is_refused(running: House, changes: Any, pointer: str) -> None:
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x")))

    with pytest.raises(Failure) as refused:
        await create(running, **changes)

    assert refused.value.code is Code.INVALID_VALUE
    assert [violation.pointer for violation in refused.value.violations] == [pointer]


@pytest.mark.parametrize(
    ("keys", "said", "pointer"),
    [
        ([1.5], {}, "/keys/0/values/0"),
        (["a", None], {}, "/keys/1/values/0"),
        ([["a", "b"]], {}, "/keys/0"),
        (["x" * 1025], {}, "/keys/0/values/0"),
        ([{"a": 1}], {}, "/keys/0/values/0"),
        (["a"], {"features": ["nothing"]}, "/features/0"),
        ([], {}, "/keys"),
        (["a"] * 101, {}, "/keys"),
    ],
)
async def test_a_read_that_makes_no_sense_is_refused(running: House, keys: Any, said: Any, pointer: str) -> None:
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x")))
    await create(running)
    await materialise(running)

    with pytest.raises(Failure) as refused:
        await read(running, *keys, **said)

    assert refused.value.code is Code.INVALID_VALUE
    assert [violation.pointer for violation in refused.value.violations] == [pointer]


async def test_what_is_not_there_is_said(running: House) -> None:
    assert await code_of(create(running)) is Code.NOT_FOUND
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x")))
    await create(running)
    assert await code_of(create(running)) is Code.ALREADY_EXISTS
    assert await code_of(materialise(running, version=2)) is Code.UNKNOWN_VERSION
    assert await code_of(materialise(running, data_set_version=2)) is Code.UNKNOWN_VERSION
    assert await code_of(materialise(running, "nobody")) is Code.NOT_FOUND
    assert await code_of(read(running, "a", name="nobody")) is Code.NOT_FOUND
    late = Timestamp(seconds=2)
    assert await code_of(materialise(running, since=late, until=late)) is Code.INVALID_VALUE


async def test_a_column_that_has_changed_its_type_stops_a_materialisation(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x")))
    await create(running)
    table = readings(("a", hours_ago(1), 1.0, "x"))
    await add(running, "readings", table.set_column(2, "temp", pa.array(["warm"])))

    with pytest.raises(Failure, match="temp") as refused:
        await materialise(running)

    assert refused.value.code is Code.FAILED_PRECONDITION


async def test_a_row_that_is_too_large_stops_a_materialisation(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x" * 70_000)))
    await create(running)

    begun = await views(running).MaterialiseFeatureView(pb.MaterialiseFeatureViewRequest(feature_view="sensors"))
    operation = await ended(running, begun.operation)
    assert (operation.error.code, "row 1" in operation.error.detail) == ("failed_precondition", True)


async def test_an_answer_is_as_large_as_the_features_that_are_asked_for(running: House) -> None:
    names = [f"s{number}" for number in range(60)]
    await add(running, "readings", readings(*((name, hours_ago(1), 1.0, "x" * 60_000) for name in names)))
    await create(running)
    await materialise(running)

    assert await code_of(read(running, *names)) is Code.LIMIT_EXCEEDED
    assert await code_of(read(running, *names, features=["state"])) is Code.LIMIT_EXCEEDED
    assert await values(running, *names, features=["temp"]) == [[1.0]] * 60


async def test_who_does_not_see_a_column_gets_it_neither_here(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x")))
    await create(running)
    await materialise(running)
    mask = datasets_pb2.MaskColumnsRequest(data_set="readings", columns=["TEMP"])
    await running.stub(DataSetsStub, "data", if_match='"2"').MaskColumns(mask)
    plain = views(running, "feature_views.read", "feature_views.materialise")

    refused = await code_of(plain.ReadFeatures(request("a")))
    for _ in range(30):  # it is remembered for a second
        if refused is Code.FORBIDDEN:
            break
        await asyncio.sleep(0.1)
        refused = await code_of(plain.ReadFeatures(request("a")))

    assert refused is Code.FORBIDDEN
    assert (await plain.ReadFeatures(request("a", features=["state"]))).rows[0].values[0].string_value == "x"
    again = pb.MaterialiseFeatureViewRequest(feature_view="sensors")
    assert await code_of(plain.MaterialiseFeatureView(again)) is Code.FORBIDDEN
    assert await values(running, "a") == [[1.0, "x"]]


async def test_of_a_branch_nobody_sees_what_its_data_set_masks_by_a_right_on_the_branch(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x")))
    mask = datasets_pb2.MaskColumnsRequest(data_set="readings", columns=["temp"])
    await running.stub(DataSetsStub, "data", if_match='"2"').MaskColumns(mask)
    branch = datasets_pb2.BranchDataSetRequest(data_set="readings", branch="trial")
    await running.stub(DataSetsStub, "data").BranchDataSet(branch)
    await create(running, data_set="trial")
    await materialise(running)
    right = "data_sets.unmask@data-sets/trial"

    assert await code_of(views(running, "feature_views.read", right).ReadFeatures(request("a"))) is Code.FORBIDDEN
    both = views(running, "feature_views.read", f"{right},data-sets/readings")
    assert (await both.ReadFeatures(request("a"))).rows[0].values[0].number_value == 1.0


async def test_another_tenant_and_project_have_their_own(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x")))
    await create(running)
    await materialise(running)

    for other in ({"tenant": "evil"}, {"project": "other"}):
        assert await code_of(views(running, **other).ReadFeatures(request("a"))) is Code.NOT_FOUND


async def test_a_deleted_view_is_not_read_and_comes_back(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(1), 1.0, "x")))
    await create(running)
    await materialise(running)
    gone = pb.DeleteFeatureViewRequest(feature_view="sensors")
    assert await code_of(views(running, if_match='"9"').DeleteFeatureView(gone)) is Code.ETAG_MISMATCH
    await views(running, if_match='"2"').DeleteFeatureView(gone)
    assert await code_of(read(running, "a", version=1)) is Code.NOT_FOUND

    await views(running).UndeleteFeatureView(pb.UndeleteFeatureViewRequest(feature_view="sensors"))
    assert await values(running, "a", version=1) == [[1.0, "x"]]
    listed = await views(running).ListFeatureViews(pb.ListFeatureViewsRequest())
    assert [view.feature_view for view in listed.feature_views] == ["sensors"]


async def test_rows_lie_encrypted_and_a_start_later_reads_them(home: Path) -> None:
    async with house(home, "data") as running:
        await add(running, "readings", readings(("wintergreen", hours_ago(1), 1.0, "sassafras")))
        await create(running)
        await materialise(running)
    database = home / "data.db"
    if database.exists():  # not where every service has a database on a server
        with sqlite3.connect(database) as connection:
            rows = connection.execute("SELECT key, value FROM feature_row").fetchall()
        connection.close()
        assert len(rows) == 1
        assert not any(word in bytes(part) for part in rows[0] for word in (b"wintergreen", b"sassafras"))

    async with house(home, "data") as running:
        assert await values(running, "wintergreen") == [[1.0, "sassafras"]]
