"""Rows of versions that are not read any more go, and nothing else; what went comes again when it is asked for."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import feature_views_pb2 as pb
from services.data.feature_views.service import FeatureViews
from services.data.feature_views.sweeping import Sweep
from services.kit.errors import Code, Failure
from tests.data.tables import add
from tests.data.test_feature_views import readings
from tests.data.views import create, definition, hours_ago, materialise, values, views
from tests.support.house import House, house, until


@pytest.fixture(params=["database", pytest.param("redis", marks=pytest.mark.far)])
async def running(home: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    far = request.param == "redis"
    env = {"AIMASS_DATA_FEATURES_URL": request.getfixturevalue("redis_server").address} if far else {}
    async with house(home, "data", **env) as found:
        await add(
            found, "readings", readings(("a", hours_ago(2), 1.0, "x"), ("b", hours_ago(1), 2.0, "y")), append=True
        )
        await create(found)
        await materialise(found)
        again = pb.CreateFeatureViewVersionRequest(feature_view="sensors", definition=definition(features=["state"]))
        await views(found).CreateFeatureViewVersion(again)
        await materialise(found)
        yield found


async def sweep(running: House, days: float = 0.0) -> None:
    """As it is done so many days later, twice: the first closes, the second drops."""
    tasks = (task.args[0] for task in running.runtime.apps["data"].tasks if isinstance(task, partial) and task.args)
    owner = next(task.__self__ for task in tasks if isinstance(getattr(task, "__self__", None), Sweep))
    for _ in range(2):
        await owner.sweep(datetime.now(UTC) + timedelta(days=days))


async def rows(running: House) -> int:
    database = running.runtime.apps["data"].database
    assert database
    return await database.read(
        lambda connection: int(connection.exec_driver_sql("SELECT count(*) FROM feature_row").scalar_one())
    )


async def _refused(running: House) -> bool:
    try:
        await values(running, "a", version=1)
    except Failure as failure:
        return failure.code is Code.FAILED_PRECONDITION
    return False


async def test_an_old_version_goes_and_comes_again_when_it_is_materialised(
    running: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sweep(running, 29)
    assert await values(running, "a", version=1) == [[1.0, "x"]]
    await sweep(running, 31)

    assert await rows(running) == 2
    assert await values(running, "a", "b") == [["x"], ["y"]]
    await until(lambda: _refused(running), 10)  # what a view is, is remembered for a second
    found = await views(running).GetFeatureViewVersion(
        pb.GetFeatureViewVersionRequest(feature_view="sensors", version=1)
    )
    assert (found.data_set_version, found.HasField("materialise_time")) == (0, False)

    async def before_the_sweep(*_: Any) -> int:
        return 2

    # Who asked just before the sweep how much is covered begins just behind it.
    monkeypatch.setattr(FeatureViews, "_covered", before_the_sweep)
    assert (await materialise(running, version=1)).rows == 2
    assert await values(running, "a", "b", version=1) == [[1.0, "x"], [2.0, "y"]]
    assert await values(running, "a", "b") == [["x"], ["y"]]


async def test_who_keeps_an_old_version_fresh_keeps_it(running: House) -> None:
    later = datetime.now(UTC) + timedelta(days=31)
    database = running.runtime.apps["data"].database
    assert database
    change = "UPDATE feature_view_version SET materialise_time = '{}' WHERE version = 1".format(later.isoformat(" "))
    await database.run(lambda connection: connection.exec_driver_sql(change))
    await sweep(running, 31)

    assert await rows(running) == 4


async def test_rows_of_a_deleted_view_go(running: House) -> None:
    await views(running, if_match='"4"').DeleteFeatureView(pb.DeleteFeatureViewRequest(feature_view="sensors"))
    await sweep(running, 29)
    assert await rows(running) == 4
    await sweep(running, 31)
    assert await rows(running) == 0

    await views(running).UndeleteFeatureView(pb.UndeleteFeatureViewRequest(feature_view="sensors"))
    found = await views(running).GetFeatureView(pb.GetFeatureViewRequest(feature_view="sensors"))
    assert found.serving_version == 0
    await materialise(running)
    assert await values(running, "a", version=2) == [["x"]]
