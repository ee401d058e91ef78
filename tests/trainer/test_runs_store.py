"""Runs and points in a real database, without jobs around them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.kit.auth import Scope
from services.kit.db import Database
from services.kit.errors import NotFound
from services.trainer.database import open_database
from services.trainer.jobs.domain import File, Inputs, Job, JobSpec, LightGbm, RowRange
from services.trainer.runs.domain import Point, Run, parameters
from services.trainer.runs.store import Store

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ACME, RIVAL = Scope("acme"), Scope("rival")
RUN = Run("r1", "j1", "late", "queued", {"seed": "1"}, {}, (), NOW, None)


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = open_database("", tmp_path)
    await database.start()
    await database.run(lambda connection: Store(database).add(connection, ACME, RUN))
    yield database
    database.close()


async def record(db: Database, *points: tuple[str, int, float], scope: Scope = ACME) -> None:
    made = [Point(metric, step, value, NOW) for metric, step, value in points]
    await db.run(lambda connection: Store(db).record(connection, scope, "r1", made))


async def values(db: Database, metric: str) -> list[tuple[int, float]]:
    page = await Store(db).points(ACME, "r1", metric, 0, "")
    return [(point.step, point.value) for point in page.items]


async def test_a_run_is_read_back(db: Database) -> None:
    files = (File("model.onnx", "sha256:1", 3, "application/octet-stream"),)
    await db.run(lambda connection: Store(db).set(connection, ACME, "r1", state="succeeded", files=files))

    assert await Store(db).get(ACME, "r1") == replace(RUN, state="succeeded", files=files)
    with pytest.raises(NotFound, match="there is no run r1"):
        await Store(db).get(RIVAL, "r1")


async def test_points_are_kept_by_step_and_the_last_is_the_runs_metric(db: Database) -> None:
    await record(db, ("loss", 2, 0.5), ("loss", 1, 0.7), ("auc", 0, 0.6))
    await record(db, ("loss", 3, 0.4))

    assert await values(db, "loss") == [(1, 0.7), (2, 0.5), (3, 0.4)]
    assert (await Store(db).get(ACME, "r1")).metrics == {"loss": 0.4, "auc": 0.6}


async def test_a_second_attempt_writes_over_the_first(db: Database) -> None:
    await record(db, ("loss", 1, 0.7), ("loss", 2, 0.5))
    await record(db, ("loss", 1, 0.6), ("loss", 1, 0.65))

    assert await values(db, "loss") == [(1, 0.65), (2, 0.5)]


async def test_nothing_to_record_is_nothing(db: Database) -> None:
    await record(db)

    assert await values(db, "loss") == []


async def test_pages_of_points_go_on_where_they_ended(db: Database) -> None:
    await record(db, *(("loss", step, float(step)) for step in range(5)))
    first = await Store(db).points(ACME, "r1", "loss", 3, "")
    second = await Store(db).points(ACME, "r1", "loss", 3, first.next_token)

    assert [point.step for point in (*first.items, *second.items)] == [0, 1, 2, 3, 4]
    assert not second.next_token


def test_parameters_are_texts_that_a_person_can_compare() -> None:
    ranges = (RowRange("month", None, 9), RowRange("month", 10, None))
    spec = JobSpec("late", "f", 1, 2, *ranges, LightGbm(10, 31, 0.1, 20), 3)
    inputs = Inputs("flights", "sha256:0", (), (), "late", "id")
    found = parameters(Job("j", spec, inputs, "r", NOW))

    assert found == {
        "estimator": "lightgbm",
        "rounds": "10",
        "leaves": "31",
        "learning_rate": "0.1",
        "min_data_in_leaf": "20",
        "seed": "3",
        "feature_set": "f@1",
        "data_set": "flights@2",
        "permute_labels": "false",
        "train": "month: ..9",
        "evaluate": "month: 10..",
    }
