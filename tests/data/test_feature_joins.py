"""Joins of features through their RPC: rows with the features that were known at their times."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from aimass.v1 import datasets_pb2, operations_pb2
from aimass.v1 import feature_views_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from services.kit.errors import Code, Failure
from tests.data.tables import add
from tests.data.test_feature_views import readings
from tests.data.views import create, ended, hours_ago, materialise, values, views
from tests.support.house import House, house
from tests.support.refused import code_of


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    async with house(home, "data") as found:
        yield found


def asked(*rows: tuple[str, datetime]) -> pa.Table:
    return pa.table(
        {
            "id": list(range(len(rows))),
            "probe": [sensor for sensor, _ in rows],
            "time": pa.array([at for _, at in rows], pa.timestamp("us", tz="UTC")),
        }
    )


def request(**changes: Any) -> pb.JoinFeaturesRequest:
    said: dict[str, Any] = {"output": "training", "data_set": "asked", "event_time": "time"}
    view = pb.JoinedView(feature_view="sensors", keys=["probe"], prefix="last_")
    return pb.JoinFeaturesRequest(**said | {"views": [view]} | changes)


async def join(running: House, **changes: Any) -> pb.FeatureJoin:
    begun = await views(running).JoinFeatures(request(**changes))
    operation = await ended(running, begun.operation)
    assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    found = pb.FeatureJoin()
    assert operation.response.Unpack(found)
    return found


async def rows(running: House, name: str = "training") -> list[dict[str, Any]]:
    read = datasets_pb2.ReadRowsRequest(data_set=name)
    return [dict(row) for row in (await running.stub(DataSetsStub, "data").ReadRows(read)).rows]


async def test_rows_have_the_features_that_were_known_at_their_time(running: House) -> None:
    known = readings(
        ("a", hours_ago(4), 1.0, "first"), ("a", hours_ago(2), 2.0, "second"), ("a", hours_ago(-1), 99.0, "planted")
    )
    await add(running, "readings", known)
    await add(
        running, "asked", asked(("a", hours_ago(3)), ("a", hours_ago(1)), ("a", hours_ago(5)), ("b", hours_ago(1)))
    )
    await create(running)

    done = await join(running)

    assert (done.output, done.version, done.rows, list(done.found)) == ("training", 1, 4, [2])
    found = await rows(running)
    assert [(row["id"], row["last_temp"], row["last_state"]) for row in found] == [
        (0, 1, "first"),
        (1, 2, "second"),
        (2, None, None),
        (3, None, None),
    ]
    lineage = await running.stub(DataSetsStub, "data").GetLineage(datasets_pb2.GetLineageRequest(data_set="training"))
    assert {node.name for node in lineage.nodes} >= {"asked", "readings"}


async def test_a_join_at_this_time_gives_what_is_read_by_key(running: House) -> None:
    sensors = [f"s{number}" for number in range(40)]
    history = [
        (sensor, hours_ago(1 + (n * 7 + place * 13) % 48), float(n * 100 + place), f"{n}")
        for n in range(30)
        for place, sensor in enumerate(sensors[:30])
    ]
    await add(running, "readings", readings(*history, *history[:50]))
    await create(running, time_to_live="86400s")
    await materialise(running)
    now = hours_ago(0)
    await add(running, "asked", asked(*[(sensor, now) for sensor in sensors]))

    await join(running)

    joined = [[row["last_temp"], row["last_state"]] for row in await rows(running)]
    online = [found or [None, None] for found in await values(running, *sensors)]
    assert joined == online
    assert 0 < sum(found != [None, None] for found in online) <= 30


async def test_several_views_are_joined_and_a_second_join_is_the_next_version(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(2), 1.0, "x")))
    await add(running, "asked", asked(("a", hours_ago(1))))
    await create(running)
    pair = [
        pb.JoinedView(feature_view="sensors", keys=["probe"], features=["state"]),
        pb.JoinedView(feature_view="sensors", keys=["probe"], prefix="b_"),
    ]
    assert list((await join(running, views=pair)).found) == [1, 1]
    assert set((await rows(running))[0]) == {"id", "probe", "time", "state", "b_temp", "b_state"}

    assert (await join(running)).version == 2


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"event_time": "id"}, Code.INVALID_VALUE, "/event_time"),
        ({"output": "readings"}, Code.INVALID_VALUE, "/output"),
        ({"output": "Bad"}, Code.INVALID_NAME, "/output"),
        ({"views": []}, Code.INVALID_VALUE, "/views"),
        ({"views": [pb.JoinedView(feature_view="sensors")]}, Code.INVALID_VALUE, "/views/0/keys/0"),
        ({"views": [pb.JoinedView(feature_view="sensors", keys=["id"])]}, Code.INVALID_VALUE, "/views/0/keys/0"),
        ({"views": [pb.JoinedView(feature_view="sensors", keys=["probe", "id"])]}, Code.INVALID_VALUE, "/views/0/keys"),
        (
            {"views": [pb.JoinedView(feature_view="sensors", keys=["probe"], features=["no"])]},
            Code.INVALID_VALUE,
            "/views/0/features/0",
        ),
        ({"views": [pb.JoinedView(feature_view="sensors", keys=["probe"])] * 2}, Code.INVALID_VALUE, None),
        ({"views": [pb.JoinedView(feature_view="nobody", keys=["probe"])]}, Code.NOT_FOUND, None),
        ({"data_set": "nothing"}, Code.NOT_FOUND, None),
        ({"data_set_version": 7}, Code.UNKNOWN_VERSION, None),
    ],
)
async def test_a_join_that_makes_no_sense_is_refused(
    running: House, changes: dict[str, Any], code: Code, pointer: str | None
) -> None:
    await add(running, "readings", readings(("a", hours_ago(2), 1.0, "x")))
    await add(running, "asked", asked(("a", hours_ago(1))))
    await create(running)

    with pytest.raises(Failure) as refused:
        await views(running).JoinFeatures(request(**changes))

    assert refused.value.code is code
    if pointer:
        assert [violation.pointer for violation in refused.value.violations] == [pointer]


async def test_who_does_not_see_a_column_joins_none_of_it(running: House) -> None:
    await add(running, "readings", readings(("a", hours_ago(2), 1.0, "x")))
    await add(running, "asked", asked(("a", hours_ago(1))))
    await create(running)
    mask = datasets_pb2.MaskColumnsRequest(data_set="readings", columns=["temp"])
    await running.stub(DataSetsStub, "data", if_match='"2"').MaskColumns(mask)
    plain = views(running, "feature_views.join")

    assert await code_of(plain.JoinFeatures(request())) is Code.FORBIDDEN
    state = pb.JoinedView(feature_view="sensors", keys=["probe"], features=["state"])
    assert (await plain.JoinFeatures(request(views=[state]))).operation


async def test_a_join_goes_on_after_a_stop(home: Path) -> None:
    async with house(home, "data") as running:
        await add(running, "readings", readings(("a", hours_ago(2), 1.0, "x")))
        await add(running, "asked", asked(("a", hours_ago(1))))
        await create(running)
        begun = await views(running).JoinFeatures(request())
    async with house(home, "data") as running:
        operation = await ended(running, begun.operation)
        assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
        assert [row["last_temp"] for row in await rows(running)] == [1]
