import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.logs.database import open_database
from services.logs.monitors.domain import Outcome, Pair, Prediction
from services.logs.monitors.service import prediction_of
from services.logs.monitors.store import Store
from tests.logs.records import record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACME, RIVAL = Scope("acme"), Scope("rival")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    db = open_database("", tmp_path)
    await db.start()
    yield Store(db)
    db.close()


def prediction(request_id: str, version: int, *scores: float, model: str = "late") -> Prediction:
    return Prediction(model, request_id, version, struct.pack(f"<{len(scores)}d", *scores))


async def keep(store: Store, *made: Prediction, scope: Scope = ACME) -> None:
    await store.keep("test", (1, 2), [(scope, one) for one in made], NOW)


async def test_predictions_and_the_place_are_written_together(store: Store) -> None:
    await keep(store, prediction("a", 1, 0.1, 0.2), prediction("b", 2, 0.3))

    assert await store.position("test") == (1, 2)
    assert await store.counts(ACME, "late") == {1: 2, 2: 1}
    assert await store.counts(RIVAL, "late") == {}
    assert await store.counts(ACME, "early") == {}


async def test_where_predictions_cannot_be_written_the_place_stays(store: Store) -> None:
    await store.keep("test", (1, 1), [], NOW)
    nobodys: Any = None
    with pytest.raises(IntegrityError):
        await keep(store, prediction("a", 1, 0.1), prediction("b", 1, 0.1, model=nobodys))

    assert await store.position("test") == (1, 1)
    assert await store.counts(ACME, "late") == {}


async def test_a_prediction_that_is_read_again_counts_once(store: Store) -> None:
    await keep(store, prediction("a", 1, 0.1))
    await keep(store, prediction("a", 1, 0.1), prediction("a", 2, 0.9))

    assert await store.counts(ACME, "late") == {1: 1}


async def test_outcomes_meet_their_rows(store: Store) -> None:
    await keep(store, prediction("a", 1, 0.1, 0.2), prediction("b", 2, 0.3), prediction("a", 9, 0.9, model="early"))
    outcomes = [Outcome("a", 1, 1.0), Outcome("b", 0, 0.0), Outcome("a", 5, 1.0), Outcome("unknown", 0, 1.0)]
    assert await store.record(ACME, "late", outcomes, NOW) == (4, 0)

    assert set(await store.pairs(ACME, "late", 100)) == {Pair(1, 0.2, 1.0), Pair(2, 0.3, 0.0)}
    assert await store.pairs(RIVAL, "late", 100) == []


async def test_a_conflict_records_nothing(store: Store) -> None:
    await store.record(ACME, "late", [Outcome("a", 0, 1.0)], NOW)
    with pytest.raises(Failure) as caught:
        await store.record(ACME, "late", [Outcome("b", 0, 1.0), Outcome("a", 0, 0.0)], NOW)

    assert (caught.value.code, caught.value.detail) == (Code.CONFLICT, "row 0 of request a has another outcome")
    assert await store.record(ACME, "late", [Outcome("b", 0, 0.0)], NOW) == (1, 0)
    assert await store.record(RIVAL, "late", [Outcome("a", 0, 0.0)], NOW) == (1, 0)


async def test_a_score_that_is_no_number_is_no_pair(store: Store) -> None:
    await keep(store, prediction("a", 1, float("nan"), 0.5))
    await store.record(ACME, "late", [Outcome("a", 0, 1.0), Outcome("a", 1, 1.0)], NOW)

    assert await store.pairs(ACME, "late", 100) == [Pair(1, 0.5, 1.0)]


async def test_a_measurement_is_bounded(store: Store) -> None:
    await keep(store, prediction("a", 1, *([0.5] * 50)))
    await store.record(ACME, "late", [Outcome("a", row, 1.0) for row in range(50)], NOW)

    assert len(await store.pairs(ACME, "late", 20)) == 20


@pytest.mark.parametrize(
    "lacks", [{"kind": "log"}, {"request_id": ""}, {"model": ""}, {"version": 0}, {"scores": b""}], ids=str
)
def test_what_is_no_prediction_is_left_out(lacks: dict[str, object]) -> None:
    whole = {"kind": "prediction", "request_id": "r", "model": "late", "version": 1, "scores": bytes(8)}

    assert prediction_of(record(0, **whole)) == (ACME, Prediction("late", "r", 1, bytes(8)))
    assert prediction_of(record(0, **whole | lacks)) is None
