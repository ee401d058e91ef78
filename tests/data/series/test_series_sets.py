"""Series sets as a client app sees them: real tables, a real child."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pyarrow as pa
import pytest
import pytest_asyncio

from aimass.v1 import datasets_pb2 as dpb
from aimass.v1 import operations_pb2 as opb
from aimass.v1 import series_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.series_pb2_grpc import SeriesSetsStub
from services.data.series import online, state
from services.data.series.keys import text_of
from services.kit.auth import Scope
from services.kit.errors import Code
from tests.data.series import plain
from tests.support.house import House, house, until
from tests.support.refused import refused
from tests.support.tables import add_version

pytestmark = pytest.mark.asyncio(loop_scope="module")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
SLIDING, TUMBLING, ROWS = pb.SERIES_WINDOW_SLIDING, pb.SERIES_WINDOW_TUMBLING, pb.SERIES_WINDOW_ROWS
FEATURES = [
    pb.SeriesFeature(name="mean", statistic=pb.SERIES_STATISTIC_MEAN, column="delay", window=SLIDING, seconds=7200),
    pb.SeriesFeature(name="before", statistic=pb.SERIES_STATISTIC_LAG, column="delay", rows=1),
    pb.SeriesFeature(name="place", statistic=pb.SERIES_STATISTIC_LAST, column="from", window=ROWS, rows=5),
    pb.SeriesFeature(name="today", statistic=pb.SERIES_STATISTIC_COUNT, window=TUMBLING, seconds=86_400),
]


def table(*rows: tuple[str | None, float | None, float | None, str | None]) -> pa.Table:
    """Flights of planes: plane, hours since the beginning, minutes late, from where."""
    return pa.table(
        {
            "plane": pa.array([row[0] for row in rows], pa.string()),
            "at": pa.array(
                [None if row[1] is None else BEGIN + timedelta(hours=row[1]) for row in rows],
                pa.timestamp("us", tz="UTC"),
            ),
            "delay": pa.array([row[2] for row in rows], pa.float64()),
            "from": pa.array([row[3] for row in rows], pa.string()),
        }
    )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("series"), "data") as found:
        rows = table(("b", 1, 8.0, "LGA"), ("a", 3, 30.0, "EWR"), ("a", 1, 10.0, "JFK"), ("a", 2, None, None))
        await add_version(found, "flights", rows)
        yield found


def stub(running: House, **how: Any) -> Any:
    return running.stub(SeriesSetsStub, "data", **how)


async def create(running: House, name: str, **values: Any) -> Any:
    what = {
        "data_set": "flights",
        "output_data_set": f"{name}-out",
        "keys": ["plane"],
        "time": "at",
        "features": FEATURES,
    }
    return await stub(running).CreateSeriesSet(pb.CreateSeriesSetRequest(series_set=name, **what | values))


async def ended(running: House, operation: str) -> Any:
    wait = opb.WaitOperationRequest(operation=operation)
    return await running.stub(OperationsStub, "data").WaitOperation(wait)


async def run(running: House, name: str, **values: Any) -> pb.SeriesSetVersion:
    """What a run made."""
    started = await stub(running).RunSeriesSet(pb.RunSeriesSetRequest(series_set=name, **values))
    operation, answer = await ended(running, started.operation), pb.SeriesSetVersion()
    assert operation.state == opb.OPERATION_STATE_SUCCEEDED, operation.error
    operation.response.Unpack(answer)
    return answer


async def rows_of(running: House, name: str) -> list[dict[str, Any]]:
    sets = running.stub(DataSetsStub, "data")
    return [dict(row) for row in (await sets.ReadRows(dpb.ReadRowsRequest(data_set=name))).rows]


async def test_a_run_adds_its_columns_and_goes_on_with_new_rows(running: House) -> None:
    await create(running, "recent")
    first = await run(running, "recent")
    found = await rows_of(running, "recent-out")

    assert (first.version, first.rows, first.late, first.follows, first.output_version) == (1, 4, 0, 0, 1)
    assert [(row["plane"], row["delay"], row["mean"], row["before"], row["place"], row["today"]) for row in found] == [
        ("a", 10, None, None, None, 0),
        ("a", None, 10, 10, "JFK", 1),
        ("a", 30, 10, None, "JFK", 2),
        ("b", 8, None, None, None, 0),
    ]
    again = await run(running, "recent")
    assert again == first, "nothing new, no version"

    more = table(
        ("a", 3, 50.0, "BOS"),
        ("a", 2.5, 99.0, "SFO"),
        ("a", 4, 70.0, None),
        ("c", 1, 1.0, None),
        ("c", None, 2.0, None),
    )
    await add_version(running, "flights", more, append=True)
    second = await run(running, "recent")
    found = await rows_of(running, "recent-out")
    assert (second.version, second.rows, second.late, second.follows, second.output_version) == (2, 3, 1, 1, 2)
    assert [
        (row["plane"], row["delay"], row["mean"], row["before"], row["place"], row["today"]) for row in found[4:]
    ] == [
        ("a", 50, 10, None, "JFK", 2),  # of the time of another row that it does not see
        ("a", 70, 40, 50, "BOS", 4),  # the late row is not in it
        ("c", 1, None, None, None, 0),
    ]
    listing = dpb.ListQuarantineRequest(data_set="recent-out", version=2)
    aside = (await running.stub(DataSetsStub, "data").ListQuarantine(listing)).rows
    assert sorted((row.reason, row.origin) for row in aside) == [("late", "flights:6"), ("no time", "flights:9")]
    lineage = dpb.GetLineageRequest(data_set="recent-out", version=2)
    nodes = (await running.stub(DataSetsStub, "data").GetLineage(lineage)).nodes
    assert ("data_set", "flights", 2) in [(node.kind, node.name, node.version) for node in nodes]

    whole = await run(running, "recent", rebuild=True)
    found = await rows_of(running, "recent-out")
    assert (whole.version, whole.rows, whole.late, whole.follows) == (3, 8, 0, 0)
    assert [row["delay"] for row in found[:6]] == [10, None, 99, 30, 50, 70]


async def test_the_state_serves_one_key_as_the_table_has_it(running: House) -> None:
    """What an online store does with a version: read a key, ask for a time, push rows."""
    await add_version(running, "trips", table(("a", 1, 10.0, "JFK"), ("a", 2, 20.0, None), ("b", 1, 5.0, "LGA")))
    await create(running, "online", data_set="trips")
    await run(running, "online")
    service = running.runtime.apps["data"].rpc["aimass.v1.SeriesSets"]._series_sets
    version = await service.version(Scope("acme"), "online", 0)
    async with service.state(Scope("acme"), version) as path:
        held, key = state.read_key(path, "=a"), text_of(version.keys, ["a"])
        assert key == "=a"
        assert state.read_key(path, "=none").num_rows == 0
    at = round((BEGIN + timedelta(hours=3)).timestamp() * 1e6)
    pushed, held = online.push(version.features, held, key, at, {"delay": 40.0, "from": "BOS"})
    asked = online.ask(version.features, held, at + 3_600_000_000)
    await add_version(running, "trips", table(("a", 3, 40.0, "BOS"), ("a", 4, None, None)), append=True)
    await run(running, "online")
    found = (await rows_of(running, "online-out"))[3:]

    assert [{name: row[name] for name in pushed} for row in found] == [pushed, asked]
    assert asked == {"mean": 30, "before": 40, "place": "BOS", "today": 3}


async def test_a_run_begins_anew_where_it_cannot_go_on(running: House) -> None:
    await add_version(running, "moved", table(("a", 1, 10.0, None)))
    await create(running, "anew", data_set="moved")
    await run(running, "anew")
    await add_version(running, "moved", table(("a", 0, 1.0, None)))  # not appended
    replaced = await run(running, "anew")
    assert (replaced.follows, replaced.rows, replaced.late) == (0, 1, 0)

    await add_version(running, "moved", table(("a", 1, 2.0, None)), append=True)
    await add_version(running, "anew-out", table(("x", 1, 2.0, None)))  # by somebody else
    found = await run(running, "anew")
    assert (found.follows, found.rows) == (0, 2)
    older = await run(running, "anew", data_set_version=1)
    assert (older.follows, older.rows, older.data_set_version) == (0, 1, 1)


async def test_components_are_forecast_for_each_row_and_for_the_next(running: House) -> None:
    values = [100 + 0.5 * n + (10.0, -4.0, -6.0)[n % 3] for n in range(40)]
    await add_version(running, "steady", table(*(("a", n, value, None) for n, value in enumerate(values))))
    names = ("TREND", "SEASON", "REMAINDER")
    said = [component(name=name.lower(), statistic=f"SERIES_STATISTIC_{name}", periods=[3]) for name in names]
    made = await create(running, "parts", data_set="steady", features=said)
    assert list(made.features) == said
    await run(running, "parts")
    found = await rows_of(running, "parts-out")

    assert [row["trend"] for row in found[:12]] == [None] * 12
    assert [row["remainder"] for row in found[:13]] == [None] * 13
    for row, value in zip(found[13:], values[13:], strict=True):
        assert row["trend"] + row["season"] == pytest.approx(value, abs=0.2)
        assert abs(row["remainder"]) < 0.2
    service = running.runtime.apps["data"].rpc["aimass.v1.SeriesSets"]._series_sets
    version = await service.version(Scope("acme"), "parts", 0)
    async with service.state(Scope("acme"), version) as path:
        held = state.read_key(path, "=a")
    at = round((BEGIN + timedelta(hours=40)).timestamp() * 1e6)
    ahead = online.ask(version.features, held, at)
    assert ahead["trend"] == pytest.approx(120, abs=0.2)
    assert ahead["season"] == pytest.approx(-4, abs=0.2)


async def test_the_last_values_are_compared_with_templates(running: House) -> None:
    """A rise comes late and twice as high: the band must let it be warped, scaling takes its height."""
    values = [5.0, 5.0, 5.0, 5.0, 7.0, 9.0, 5.0, 5.0, 3.0, 1.0]
    await add_version(running, "shaped", table(*(("a", n, value, None) for n, value in enumerate(values))))
    said = [
        warped(name="near", statistic=pb.SERIES_STATISTIC_DTW_NEAREST, band=2, scaled=True),
        warped(name="far", band=2, scaled=True),
        warped(name="plain"),
    ]
    made = await create(running, "shapes", data_set="shaped", features=said)
    assert list(made.features) == said
    await run(running, "shapes")
    found = await rows_of(running, "shapes-out")

    assert [row["near"] for row in found] == [None] * 4 + ["rise", "rise", "rise", "fall", "fall", "fall"]
    assert all((row["far"] is None) == (row["near"] is None) for row in found)
    assert found[6]["far"] == pytest.approx(0, abs=1e-9), "5, 5, 7, 9 is the template, scaled"
    assert found[6]["plain"] == pytest.approx(plain.warped([5, 5, 7, 9], [0, 0, 1, 2], 0))


async def test_few_rows_none_and_no_key(running: House) -> None:
    await add_version(running, "small", table().slice(0, 0))
    await create(running, "few", data_set="small", keys=[])
    assert (await run(running, "few")).rows == 0
    await add_version(running, "small", table((None, 1, 5.0, None), ("a", 2, 6.0, None)), append=True)
    assert (await run(running, "few")).rows == 2
    assert [row["before"] for row in await rows_of(running, "few-out")] == [None, 5]


def feature(**values: Any) -> pb.SeriesFeature:
    said = {"name": "f", "statistic": "SERIES_STATISTIC_SUM", "column": "delay", "window": "SERIES_WINDOW_SLIDING"}
    return pb.SeriesFeature(**said | {"seconds": 60.0} | values)


def component(**values: Any) -> pb.SeriesFeature:
    said = {"statistic": pb.SERIES_STATISTIC_SEASON, "window": 0, "seconds": 0.0, "rows": 12}
    return feature(**said | values)


RISE = pb.SeriesTemplate(name="rise", values=[0, 0, 1, 2])
FALL = pb.SeriesTemplate(name="fall", values=[2, 2, 1, 0])


def warped(**values: Any) -> pb.SeriesFeature:
    said = {"statistic": pb.SERIES_STATISTIC_DTW_DISTANCE, "window": 0, "seconds": 0.0, "rows": 4}
    return feature(**said | {"templates": [RISE, FALL]} | values)


def template(values: list[float]) -> list[pb.SeriesTemplate]:
    return [pb.SeriesTemplate(name="t", values=values)]


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"features": []}, "/features"),
        ({"features": [feature(name="")]}, "/features/0/name"),
        ({"features": [feature(), feature(name="F")]}, "/features/1/name"),
        ({"features": [feature(name="__f")]}, "/features/0/name"),
        ({"features": [feature(column="")]}, "/features/0/column"),
        ({"features": [feature(seconds=float("nan"))]}, "/features/0/seconds"),
        ({"features": [feature(seconds=4e9)]}, "/features/0/seconds"),
        ({"features": [feature(window="SERIES_WINDOW_UNSPECIFIED")]}, "/features/0/window"),
        ({"features": [feature(window="SERIES_WINDOW_ROWS")]}, "/features/0/rows"),
        ({"features": [feature(window="SERIES_WINDOW_SESSION", gap_seconds=61)]}, "/features/0/gap_seconds"),
        ({"features": [feature(window="SERIES_WINDOW_TUMBLING", back=1001)]}, "/features/0/back"),
        ({"features": [feature(back=1)]}, "/features/0/back"),
        ({"features": [feature(statistic=pb.SERIES_STATISTIC_LAG, rows=1)]}, "/features/0/window"),
        ({"features": [feature(statistic=99)]}, "/features/0"),
        ({"features": [feature(periods=[2])]}, "/features/0/periods"),
        ({"features": [component(rows=3)]}, "/features/0/rows"),
        ({"features": [component(periods=[7])]}, "/features/0/periods/0"),
        ({"features": [component(periods=[3, 3])]}, "/features/0/periods/1"),
        ({"features": [component(periods=[2, 3, 4, 5])]}, "/features/0/periods"),
        ({"features": [component(periods=[3], season=4)]}, "/features/0/season"),
        ({"features": [component(window=SLIDING)]}, "/features/0/window"),
        ({"features": [feature(templates=[RISE])]}, "/features/0/templates"),
        ({"features": [feature(band=1)]}, "/features/0/templates"),
        ({"features": [warped(templates=[])]}, "/features/0/templates"),
        ({"features": [warped(templates=[RISE] * 2)]}, "/features/0/templates/1/name"),
        ({"features": [warped(templates=template([1]))]}, "/features/0/templates/0/values"),
        ({"features": [warped(templates=template([0.0] * 1001))]}, "/features/0/templates/0/values"),
        ({"features": [warped(templates=template([0.0, float("nan")]))]}, "/features/0/templates/0/values"),
        ({"features": [warped(templates=template([0.0, 1e101]))]}, "/features/0/templates/0/values"),
        ({"features": [warped(rows=1000, templates=template([0.0] * 201))]}, "/features/0/templates"),
        ({"features": [warped(name=f"{n}", templates=template([0.0] * 1000)) for n in range(11)]}, "/features"),
        ({"features": [warped(rows=1)]}, "/features/0/rows"),
        ({"features": [warped(band=-1)]}, "/features/0/band"),
        ({"features": [warped(window=SLIDING)]}, "/features/0/window"),
        ({"keys": ["plane", "plane"]}, "/keys/1"),
        ({"keys": ["at"]}, "/keys/0"),
        ({"output_data_set": "flights"}, "/output_data_set"),
        ({"time": ""}, "/time"),
    ],
)
async def test_what_makes_no_sense_is_not_made(running: House, values: dict[str, Any], pointer: str) -> None:
    failure = await refused(create(running, "senseless", **values))
    assert failure.code is Code.INVALID_VALUE
    assert pointer in [violation.pointer for violation in failure.violations]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"keys": ["none"]}, "keys.0 the data set has no column none"),
        ({"keys": ["delay"]}, "keys.0 delay holds double, which cannot be a key"),
        ({"time": "delay"}, "time delay holds double, not times"),
        ({"features": [feature(column="none")]}, "features.0.column the data set has no column none"),
        ({"features": [feature(column="from")]}, "features.0.column from holds string, which has no sum"),
        ({"features": [feature(name="Delay")]}, "features.0.name the data set has a column Delay"),
    ],
)
async def test_a_run_that_does_not_fit_the_columns_is_refused_at_once(
    running: House, values: dict[str, Any], says: str
) -> None:
    name = f"bad-{abs(hash(says))}"
    await create(running, name, **values)
    failure = await refused(run(running, name))
    assert (failure.code, failure.detail) == (Code.INVALID_VALUE, says)


async def test_series_sets_are_read_back_listed_deleted_and_undeleted(running: House) -> None:
    made = await create(running, "a-first", description="what was before")
    listed = await stub(running).ListSeriesSets(pb.ListSeriesSetsRequest(page_size=1))
    get = pb.GetSeriesSetRequest(series_set="a-first")
    assert await stub(running).GetSeriesSet(get) == made == listed.series_sets[0]
    assert (list(made.features), made.etag, bool(listed.next_page_token)) == (FEATURES, "1", True)
    assert (await refused(create(running, "a-first"))).code is Code.ALREADY_EXISTS
    version = pb.GetSeriesSetVersionRequest(series_set="a-first")
    assert (await refused(stub(running).GetSeriesSetVersion(version))).detail == "a-first has not run"

    delete = pb.DeleteSeriesSetRequest(series_set="a-first")
    assert (await refused(stub(running).DeleteSeriesSet(delete))).code is Code.ETAG_REQUIRED
    assert (await stub(running, if_match='"1"').DeleteSeriesSet(delete)).HasField("delete_time")
    assert (await refused(stub(running).GetSeriesSet(get))).code is Code.NOT_FOUND
    assert (await refused(run(running, "a-first"))).code is Code.NOT_FOUND
    back = await stub(running).UndeleteSeriesSet(pb.UndeleteSeriesSetRequest(series_set="a-first"))
    assert (back.etag, back.HasField("delete_time")) == ("3", False)


async def test_masked_columns_and_other_tenants(running: House) -> None:
    await add_version(running, "secret", table(("a", 1, 1.0, None)))
    await create(running, "masked", data_set="secret")
    mask = dpb.MaskColumnsRequest(data_set="secret", columns=["delay"])
    await running.stub(DataSetsStub, "data", if_match='"2"').MaskColumns(mask)
    plain = running.stub(SeriesSetsStub, "data", "series_sets.run")
    assert (await refused(plain.RunSeriesSet(pb.RunSeriesSetRequest(series_set="masked")))).code is Code.FORBIDDEN

    rival = stub(running, tenant="rival", if_match='"1"')
    asked = [
        rival.GetSeriesSet(pb.GetSeriesSetRequest(series_set="masked")),
        rival.RunSeriesSet(pb.RunSeriesSetRequest(series_set="masked")),
        rival.GetSeriesSetVersion(pb.GetSeriesSetVersionRequest(series_set="masked")),
        rival.DeleteSeriesSet(pb.DeleteSeriesSetRequest(series_set="masked")),
        rival.UndeleteSeriesSet(pb.UndeleteSeriesSetRequest(series_set="masked")),
    ]
    assert {(await refused(call)).code for call in asked} == {Code.NOT_FOUND}
    assert not (await rival.ListSeriesSets(pb.ListSeriesSetsRequest())).series_sets


def working() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "services.data.series.work" in " ".join(p.cmdline())]


async def test_one_run_at_a_time_and_a_cancelled_one_leaves_nothing(running: House) -> None:
    await create(running, "stopped")
    request = pb.RunSeriesSetRequest(series_set="stopped")
    started = await stub(running, idempotency_key="once").RunSeriesSet(request)
    assert (await stub(running, idempotency_key="once").RunSeriesSet(request)).operation == started.operation
    assert (await refused(stub(running).RunSeriesSet(request))).code is Code.IN_PROGRESS
    await until(working)
    cancel = opb.CancelOperationRequest(operation=started.operation)
    await running.stub(OperationsStub, "data").CancelOperation(cancel)

    assert (await ended(running, started.operation)).state == opb.OPERATION_STATE_CANCELLED
    assert not working()
    assert not list(running.runtime.home.glob("tables/acme/default/stopped-out/*/part-*"))
    assert (await run(running, "stopped")).version == 1
