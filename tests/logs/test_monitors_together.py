"""Predictions of which many are one row: the same answers as a row for each."""

import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from services.kit.auth import Scope
from services.logs.database import open_database
from services.logs.ingest.service import Stored
from services.logs.monitors.domain import Outcome, Pair, Prediction
from services.logs.monitors.service import predictions_of
from services.logs.monitors.store import Store
from services.logs.monitors.together import Gathering, earliest, moment, near, scores_in
from services.logs.tables import Table
from tests.logs.records import record, request_id, table
from tests.support.servers import address, database

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACME, RIVAL = Scope("acme"), Scope("rival")


@pytest.fixture(params=[pytest.param("near"), pytest.param("far", marks=pytest.mark.far)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    db = open_database(database(address("postgres")) if request.param == "far" else "", tmp_path)
    await db.start()
    yield Store(db)
    db.close()


async def keep(store: Store, *stored: Stored) -> None:
    alone, together = predictions_of(stored)
    await store.keep("test", (1, 2), alone, NOW, together)


async def pairs(store: Store, *numbers: int, scope: Scope = ACME, model: str = "late") -> list[tuple[int, float]]:
    """Versions and scores of the first rows of predictions of `table`, by score."""
    outcomes = [Outcome(request_id(number), 0, 1.0) for number in numbers]
    await store.record(scope, model, outcomes, NOW)
    return sorted((pair.version, pair.score) for pair in await store.pairs(scope, model, 10_000))


def alone(number: int, version: int, score: float) -> Stored:
    about = {"kind": "prediction", "model": "late", "version": version, "request_id": request_id(number)}
    return Stored(0, record(0, **about, scores=struct.pack("<d", score)))


async def test_predictions_of_a_table_are_counted_and_found(store: Store) -> None:
    await keep(store, Stored(0, table(300)), Stored(300, table(40, 400, version=4)), Stored(340, table(3, 500)))

    assert await store.counts(ACME, "late") == {3: 303, 4: 40}
    assert await store.counts(RIVAL, "late") == await store.counts(ACME, "early") == {}
    asked = (0, 63, 64, 299, 300, 400, 439, 440, 501)
    assert await pairs(store, *asked) == sorted(
        [(3, 0.0), (3, 0.63), (3, 0.64), (3, 2.99), (4, 4.0), (4, 4.39), (3, 5.01)]
    )
    assert await pairs(store, 0, scope=RIVAL) == []


async def test_more_outcomes_than_are_looked_for_at_once_all_meet_theirs(store: Store) -> None:
    await keep(store, Stored(0, table(200)), *(alone(number, 9, 1.0) for number in range(200, 260)))
    await store.record(ACME, "late", [Outcome("no-uuid", 0, 1.0), Outcome("f" * 36, 0, 1.0)], NOW)

    assert len(await pairs(store, *range(300))) == 260


async def test_of_a_request_that_comes_again_the_first_one_stays(store: Store) -> None:
    await keep(store, alone(5, 1, 0.5), Stored(0, record(1, kind="prediction", model="late", version=1, scores=b"x")))
    await keep(store, Stored(0, table(100)))
    await keep(store, Stored(0, table(90, 50, version=4)), alone(139, 1, 0.9), alone(20, 1, 0.9), alone(200, 1, 0.9))
    await keep(store, Stored(0, table(60, version=9)))

    assert await store.counts(ACME, "late") == {1: 2, 3: 99, 4: 40}
    assert await pairs(store, 5, 20, 60, 120, 139, 200) == [(1, 0.5), (1, 0.9), (3, 0.2), (3, 0.6), (4, 1.2), (4, 1.39)]


async def test_tables_of_several_tenants_and_models_are_apart(store: Store) -> None:
    await keep(store, Stored(0, table(30)), Stored(30, table(30, tenant="rival", version=7)))
    await keep(store, Stored(60, table(30, model="early")))

    assert (await store.counts(ACME, "late"), await store.counts(RIVAL, "late")) == ({3: 30}, {7: 30})
    assert await store.counts(ACME, "early") == {3: 30}
    assert await pairs(store, 4, scope=RIVAL) == [(7, 0.04)]


async def test_ids_of_others_between_those_of_a_table_do_no_harm(store: Store) -> None:
    name = request_id(10)[:20] + "zzzz"
    single = record(0, kind="prediction", model="late", version=1, request_id=name, scores=struct.pack("<d", 0.25))
    await keep(store, Stored(0, single))
    await keep(store, Stored(1, table(30)), Stored(31, single))

    assert await store.counts(ACME, "late") == {1: 1, 3: 30}
    await store.record(ACME, "late", [Outcome(name, 0, 1.0)], NOW)
    assert await store.pairs(ACME, "late", 10) == [Pair(1, 0.25, 1.0)]


def test_one_without_scores_is_no_prediction_and_few_are_rows_of_their_own() -> None:
    bare = table(20)
    columns = bare.columns._replace(scores=[b"", *bare.columns.scores[1:]])
    few, many = predictions_of([Stored(0, table(3, 100)), Stored(3, bare), Stored(23, record(0))])
    gathering = Gathering()
    gathering.add((ACME, "late"), 3, columns.ids, columns.scores)

    assert (few, [len(one.ids) for _, one in many]) == ([], [23])
    assert [len(one.ids) for _, one in gathering.rows()[1]] == [19]
    assert predictions_of([Stored(0, table(2))])[0] == [
        (ACME, Prediction("late", request_id(number), 3, struct.pack("<d", number / 100))) for number in range(2)
    ]


def test_scores_are_found_in_a_row() -> None:
    gathering = Gathering()
    ids = [bytes([7]) * 15 + bytes([number]) for number in range(20)]
    gathering.add((ACME, "late"), 3, b"".join(ids), [bytes([number]) * (number + 1) for number in range(20)])
    (((_, one),)) = gathering.rows()[1]

    found = dict(scores_in(b"".join(one.ids), one.packed(), [ids[3], ids[19], bytes(16)]))
    assert found == {ids[3]: bytes([3]) * 4, ids[19]: bytes([19]) * 20}


async def test_a_row_has_ids_of_a_second_and_all_are_found(store: Store) -> None:
    """Who looks for one reads a second of rows: a minute of them took too long for some ten thousand outcomes."""
    whole = table(3_001)
    sparse = Table(whole.like, 0, whole.columns.at(range(0, 3_001, 30)))
    _, together = predictions_of([Stored(0, sparse)])
    await keep(store, Stored(0, sparse))

    assert [moment(one.ids[-1]) - moment(one.ids[0]) for _, one in together] == [990, 990, 960]
    assert await store.counts(ACME, "late") == {3: 101}
    assert await pairs(store, *range(0, 3_001, 15)) == [(3, place / 100) for place in range(0, 3_001, 30)]


@pytest.mark.parametrize(("number", "before"), [(0, -1000), (1, -999), (30_000, 29_000)])
def test_a_row_begins_a_second_before_what_it_has_at_the_earliest(number: int, before: int) -> None:
    first = int(earliest(UUID(request_id(number)).bytes).replace("-", ""), 16)

    assert first == moment(UUID(request_id(0)).bytes) + before
    assert earliest(bytes(16)) == "00000000-0000"


def test_ids_that_are_close_are_looked_for_as_one() -> None:
    ids = [UUID(request_id(number)).bytes for number in (0, 50, 100, 101, 300)]

    assert list(near(ids)) == [ids[:3], ids[3:4], ids[4:]]
    assert list(near([])) == []
