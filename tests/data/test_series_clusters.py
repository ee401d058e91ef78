"""Clusters of series through their RPC: real tables, a real child, distances by their definition."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
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
from services.data.series_clusters.domain import MOST_NUMBERS
from services.kit.errors import Code
from tests.data.series.plain import warped
from tests.data.tables import add
from tests.data.test_pipelines_crash import finished
from tests.data.views import ended
from tests.support.house import House, house, until
from tests.support.refused import refused

loop = pytest.mark.asyncio(loop_scope="module")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = 12
KINDS = ("rise", "fall", "peak")


def shape(kind: str, late: int) -> list[float]:
    steps = np.arange(ROWS) - late
    rise = np.clip(steps, 0, 6) / 6
    return list({"rise": rise, "fall": 1 - rise, "peak": np.exp(-((steps - 4) ** 2) / 3)}[kind])


def readings(series: dict[Any, list[float | None]], seed: int = 0) -> pa.Table:
    """An hour apart, in any order."""
    rows = [(key, hour, value) for key, values in series.items() for hour, value in enumerate(values)]
    np.random.default_rng(seed).shuffle(rows)
    return pa.table(
        {
            "sensor": pa.array([row[0] for row in rows], pa.string()),
            "at": pa.array([BEGIN + timedelta(hours=row[1]) for row in rows], pa.timestamp("us", tz="UTC")),
            "celsius": pa.array([row[2] for row in rows], pa.float64()),
        }
    )


def planted(each: int = 8) -> dict[str, list[float | None]]:
    """Shapes that begin sooner or later, with noise; `each` of the first kind, then one and two fewer."""
    random = np.random.default_rng(1)
    return {
        f"{kind}-{n}": [value + random.normal(0, 0.02) for value in shape(kind, n % 4)]
        for place, kind in enumerate(KINDS)
        for n in range(each - place)
    }


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("clusters"), "data") as found:
        series = planted() | {"short": [0.5] * (ROWS - 1), "gone": [None] * ROWS}
        # What is before the last rows does not count; a gap is bridged, and half of the values may be missing.
        series["rise-0"] = [None, 99.0, *series["rise-0"][:5], None, *series["rise-0"][6:]]
        await add(found, "readings", readings(series))
        yield found


def request(**changes: Any) -> pb.ClusterSeriesRequest:
    said: dict[str, Any] = {"output_data_set": "clusters", "data_set": "readings", "keys": ["sensor"], "time": "at"}
    return pb.ClusterSeriesRequest(**said | {"column": "celsius", "rows": ROWS, "clusters": 3, "band": 4} | changes)


def stub(running: House, *permissions: str, **how: Any) -> Any:
    return running.stub(SeriesSetsStub, "data", *permissions, **how)


async def cluster(running: House, **changes: Any) -> pb.SeriesClusters:
    operation = await ended(running, (await stub(running).ClusterSeries(request(**changes))).operation)
    found = pb.SeriesClusters()
    assert operation.state == opb.OPERATION_STATE_SUCCEEDED, operation.error
    assert operation.response.Unpack(found)
    return found


async def rows(running: House, name: str = "clusters") -> list[dict[str, Any]]:
    sets = running.stub(DataSetsStub, "data")
    return [dict(row) for row in (await sets.ReadRows(dpb.ReadRowsRequest(data_set=name, page_size=1000))).rows]


@loop
async def test_series_of_one_shape_are_one_cluster(running: House) -> None:
    done = await cluster(running)
    found = {row["sensor"]: row for row in await rows(running)}

    assert (done.output_data_set, done.output_version) == ("clusters", 1)
    assert (done.series, done.left_out, done.chosen_from, done.rows_without_time) == (21, 2, 21, 0)
    assert [(c.cluster, c.series) for c in done.clusters] == [(0, 8), (1, 7), (2, 6)]
    assert done.silhouette > 0.7
    assert set(found) == {*planted(), "short", "gone"}
    for place, kind in enumerate(KINDS):
        assert {found[f"{kind}-{n}"]["cluster"] for n in range(8 - place)} == {place}, kind
        assert sum(found[f"{kind}-{n}"]["medoid"] for n in range(8 - place)) == 1
    for name in ("short", "gone"):
        assert (found[name]["cluster"], found[name]["distance"], found[name]["medoid"]) == (None, None, False)
    lineage = await running.stub(DataSetsStub, "data").GetLineage(dpb.GetLineageRequest(data_set="clusters"))
    assert "readings" in {node.name for node in lineage.nodes}


@loop
async def test_distances_are_those_from_the_medoid(running: House) -> None:
    series = planted()
    await add(running, "whole", readings(series))
    for band, scaled in ((0, False), (2, False), (2, True)):
        done = await cluster(running, data_set="whole", band=band, scaled=scaled, output_data_set="by")
        found = await rows(running, "by")
        values = {name: np.array(each, float) for name, each in series.items()}
        if scaled:
            values = {name: (each - each.mean()) / each.std() for name, each in values.items()}
        medoids = {row["cluster"]: row["sensor"] for row in found if row["medoid"]}
        for row in found:
            far = {number: warped(values[row["sensor"]], values[name], band) for number, name in medoids.items()}
            assert row["distance"] == pytest.approx(far[row["cluster"]], abs=1e-9)
            assert far[row["cluster"]] == min(far.values())
        for each in done.clusters:
            own = [row["distance"] for row in found if row["cluster"] == each.cluster]
            assert each.mean_distance == pytest.approx(np.mean(own))


@loop
async def test_the_same_seed_gives_the_same_and_a_second_clustering_is_the_next_version(running: House) -> None:
    noise = np.random.default_rng(3).normal(size=(60, 6))
    await add(running, "noise", readings({f"{n:02d}": list(values) for n, values in enumerate(noise)}))
    said: dict[str, Any] = {"data_set": "noise", "rows": 6, "clusters": 5, "output_data_set": "noisy"}
    first, before = await cluster(running, **said, seed=4), await rows(running, "noisy")
    again, after = await cluster(running, **said, seed=4), await rows(running, "noisy")

    assert (first.output_version, again.output_version) == (1, 2)
    assert before == after
    assert first.silhouette == again.silhouette < 0.6


@loop
async def test_many_keys_are_clustered_by_a_sample_in_order(running: House) -> None:
    """More rows than are read at a time, and more keys than are compared with each other; keys of two columns."""
    count, random = 9_000, np.random.default_rng(5)
    high = np.arange(count) % 3 == 0
    values = random.normal(size=(count, 8)) + np.where(high, 50.0, 0.0)[:, None]
    values[:, 0] = 1e9  # before the last rows
    order = random.permutation(count * 8)
    table = pa.table(
        {
            "part": np.repeat(np.arange(count) % 7, 8)[order],
            "id": np.repeat(np.arange(count), 8)[order],
            "at": pa.array(np.tile(np.arange(8), count)[order] * 10**6, pa.timestamp("us", tz="UTC")),
            "x": values.reshape(-1)[order],
        }
    )
    nowhen = pa.table({**{name: table[name][:3] for name in ("part", "id", "x")}, "at": pa.nulls(3, table["at"].type)})
    await add(running, "many", pa.concat_tables([table, nowhen.select(table.column_names)]))
    said: dict[str, Any] = {"output_data_set": "many-out", "data_set": "many", "keys": ["part", "id"], "column": "x"}
    done = await cluster(running, **said, rows=7, clusters=2)

    assert (done.series, done.left_out, done.chosen_from, done.rows_without_time) == (count, 0, 2_000, 3)
    assert [each.series for each in done.clusters] == [6_000, 3_000]
    sql = "SELECT count(*) AS n, count(DISTINCT id) AS ids, sum(CASE WHEN medoid THEN 1 ELSE 0 END) AS medoids, "
    sql += "sum(CASE WHEN (id % 3 = 0) = (cluster = 1) AND part = id % 7 THEN 1 ELSE 0 END) AS as_planted "
    query = dpb.QueryDataSetsRequest(sql=sql + 'FROM "many-out"', tables=[dpb.QueryTable(data_set="many-out")])
    (answer,) = (await running.stub(DataSetsStub, "data").QueryDataSets(query)).rows
    assert dict(answer) == {"n": count, "ids": count, "medoids": 2, "as_planted": count}


@loop
@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"output_data_set": "readings"}, Code.INVALID_VALUE, "/output_data_set"),
        ({"output_data_set": "Bad"}, Code.INVALID_NAME, "/output_data_set"),
        ({"keys": []}, Code.INVALID_VALUE, "/keys"),
        ({"keys": ["none"]}, Code.INVALID_VALUE, "/keys/0"),
        ({"keys": ["celsius"]}, Code.INVALID_VALUE, "/keys/0"),
        ({"keys": ["sensor", "sensor"]}, Code.INVALID_VALUE, "/keys/1"),
        ({"keys": ["Medoid"]}, Code.INVALID_VALUE, "/keys/0"),
        ({"time": "celsius"}, Code.INVALID_VALUE, "/time"),
        ({"time": ""}, Code.INVALID_VALUE, "/time"),
        ({"column": "at"}, Code.INVALID_VALUE, "/column"),
        ({"rows": 1}, Code.INVALID_VALUE, "/rows"),
        ({"rows": 1001}, Code.INVALID_VALUE, "/rows"),
        ({"clusters": 1}, Code.INVALID_VALUE, "/clusters"),
        ({"clusters": 101}, Code.INVALID_VALUE, "/clusters"),
        ({"band": -1}, Code.INVALID_VALUE, "/band"),
        ({"seed": -1}, Code.INVALID_VALUE, "/seed"),
        ({"cpu_seconds": -1}, Code.INVALID_VALUE, None),
        ({"data_set": "nothing"}, Code.NOT_FOUND, None),
        ({"data_set_version": 7}, Code.UNKNOWN_VERSION, None),
    ],
)
async def test_what_makes_no_sense_is_refused(
    running: House, changes: dict[str, Any], code: Code, pointer: str | None
) -> None:
    failure = await refused(stub(running).ClusterSeries(request(**changes)))
    assert failure.code is code
    assert pointer is None or pointer in [violation.pointer for violation in failure.violations]


@loop
async def test_fewer_series_than_clusters_and_too_many_keys_end_with_the_reason(running: House) -> None:
    begun = await stub(running).ClusterSeries(request(clusters=22, output_data_set="few"))
    failed = await ended(running, begun.operation)
    said = "21 of 23 keys have 12 rows with enough values: fewer than 22 clusters"
    assert (failed.error.code, failed.error.detail) == ("failed_precondition", said)

    await add(running, "empty", readings({}))
    begun = await stub(running).ClusterSeries(request(data_set="empty", output_data_set="few"))
    failed = await ended(running, begun.operation)
    assert failed.error.detail == "0 of 0 keys have 12 rows with enough values: fewer than 3 clusters"

    most = MOST_NUMBERS // 1000
    table = {"sensor": np.arange(most + 1), "celsius": np.zeros(most + 1)}
    await add(running, "wide", pa.table({**table, "at": pa.array([0] * (most + 1), pa.timestamp("us", tz="UTC"))}))
    begun = await stub(running).ClusterSeries(request(data_set="wide", rows=1000, output_data_set="few"))
    failed = await ended(running, begun.operation)
    assert failed.error.code == "limit_exceeded"
    assert f"more than {most} keys" in failed.error.detail
    found = await running.stub(DataSetsStub, "data").GetDataSet(dpb.GetDataSetRequest(data_set="few"))
    assert not found.latest_version


@loop
async def test_masked_columns_and_other_tenants(running: House) -> None:
    await add(running, "secret", readings(planted()))
    mask = dpb.MaskColumnsRequest(data_set="secret", columns=["celsius"])
    await running.stub(DataSetsStub, "data", if_match='"2"').MaskColumns(mask)

    plain = stub(running, "series_sets.cluster")
    assert (await refused(plain.ClusterSeries(request(data_set="secret")))).code is Code.FORBIDDEN
    rival = stub(running, tenant="rival")
    assert (await refused(rival.ClusterSeries(request()))).code is Code.NOT_FOUND


def working() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "services.data.series_clusters.work" in " ".join(p.cmdline())]


@loop
async def test_a_cancelled_one_leaves_nothing_and_a_repeated_call_is_one(running: House) -> None:
    asked = request(output_data_set="stopped")
    begun = await stub(running, idempotency_key="once").ClusterSeries(asked)
    assert (await stub(running, idempotency_key="once").ClusterSeries(asked)).operation == begun.operation
    await until(working)
    cancel = opb.CancelOperationRequest(operation=begun.operation)
    await running.stub(OperationsStub, "data").CancelOperation(cancel)

    assert (await ended(running, begun.operation)).state == opb.OPERATION_STATE_CANCELLED
    assert not working()
    assert not list(running.runtime.home.glob("tables/acme/default/stopped/*/part-*"))
    assert (await cluster(running, output_data_set="stopped")).output_version == 1


def kill(home: Path, point: str) -> None:
    command = [sys.executable, "-m", "tests.data.killed_clusters", str(home), point]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    root = Path(__file__).parents[2]
    killed = subprocess.run(command, cwd=root, env=env, capture_output=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()


@pytest.mark.parametrize("point", ["child", "delta"])
async def test_a_clustering_goes_on_where_it_was_killed_and_adds_one_version(home: Path, point: str) -> None:
    kill(home, point)
    async with house(home, "data") as found:
        operation, done = await finished(found), pb.SeriesClusters()
        assert operation.response.Unpack(done), operation.error
        assert (done.output_version, done.series, len(done.clusters)) == (1, 21, 3)
        assert len(await rows(found)) == 21
