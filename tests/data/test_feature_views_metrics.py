"""Metrics of the feature store: what reads find, how old it is, and how far views are behind."""

from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import feature_views_pb2 as pb
from services.data.feature_views.watching import Watch
from services.kit.db import Database
from services.kit.telemetry.metrics import REGISTRY
from tests.data.tables import add
from tests.data.test_feature_views import readings
from tests.data.views import create, hours_ago, materialise, read, views
from tests.support.house import House, house


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def watch(running: House) -> Watch:
    """That of the running service."""
    owners = (getattr(task, "__self__", None) for task in running.runtime.apps["data"].tasks)
    return next(owner for owner in owners if isinstance(owner, Watch))


async def test_reads_and_lag_are_counted(home: Path) -> None:
    async with house(home, "data") as running:
        rows = readings(("a", hours_ago(2), 1.0, "x"), ("b", hours_ago(30), 1.0, "x"))
        await add(running, "readings", rows, append=True)
        await create(running, time_to_live="86400s")
        await materialise(running)
        states = {
            state: value("aimass_feature_rows_read_total", state=state) for state in ("found", "missing", "expired")
        }
        young, old = (value("aimass_feature_age_seconds_bucket", le=bound) for bound in ("3600.0", "21600.0"))

        await read(running, "a", "a", "b", "c")

        counted = {state: value("aimass_feature_rows_read_total", state=state) - was for state, was in states.items()}
        assert counted == {"found": 2, "missing": 1, "expired": 1}
        assert value("aimass_feature_age_seconds_bucket", le="3600.0") == young
        assert value("aimass_feature_age_seconds_bucket", le="21600.0") == old + 2

        await watch(running).look()
        assert (value("aimass_feature_views_behind"), value("aimass_feature_lag_seconds")) == (0, 0)
        await add(running, "readings", rows, append=True)
        await watch(running).look()
        assert value("aimass_feature_views_behind") == 1
        assert 0 < value("aimass_feature_lag_seconds") < 60

        gone = pb.DeleteFeatureViewRequest(feature_view="sensors")
        await views(running, if_match='"2"').DeleteFeatureView(gone)
        await watch(running).look()
        assert value("aimass_feature_views_behind") == 0


async def test_a_look_at_many_views_asks_the_database_a_few_times(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(home, "data") as running:
        rows = readings(("a", hours_ago(2), 1.0, "x"))
        await add(running, "readings", rows, append=True)
        for number in range(4):
            await create(running, f"view{number}")
            await materialise(running, f"view{number}")
        await add(running, "readings", rows, append=True)
        asked, read = [0], Database.read

        async def counting(database: Database, work: Any) -> Any:
            asked[0] += 1
            return await read(database, work)

        monkeypatch.setattr(Database, "read", counting)
        watching = watch(running)
        await watching.look()
        monkeypatch.undo()

        assert value("aimass_feature_views_behind") == 4
        assert asked[0] < 4 * 2  # others ask as well meanwhile
