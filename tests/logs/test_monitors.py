import struct
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import monitors_pb2 as pb
from aimass.v1.monitors_pb2_grpc import MonitorsStub
from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.kit.telemetry import Record
from services.logs.ingest.service import Ingest
from tests.logs.conftest import logs, tell
from tests.support.house import House, until


def prediction(request_id: str, version: int, *scores: float, tenant: str = "acme") -> Record:
    attributes = {"request_id": request_id, "model": "late", "version": version, "status": "ok", "duration_ms": 0.4}
    blob = struct.pack(f"<{len(scores)}d", *scores)
    return Record("prediction", "late", "", Scope(tenant), attributes | {"rows": len(scores), "scores": blob})


def outcomes(*arguments: tuple[str, int, float], model: str = "late") -> pb.RecordOutcomesRequest:
    return pb.RecordOutcomesRequest(
        model=model, outcomes=[pb.Outcome(request_id=name, row=row, value=value) for name, row, value in arguments]
    )


async def quality(running: House, tenant: str = "acme") -> list[Any]:
    answer = await running.stub(MonitorsStub, "logs", tenant=tenant).GetQuality(pb.GetQualityRequest(model="late"))
    return list(answer.versions)


async def measured(running: House, versions: int = 1) -> list[Any]:
    async def enough() -> bool:
        return len(await quality(running)) >= versions

    await until(enough)
    return await quality(running)


async def code_of(running: House, request: pb.RecordOutcomesRequest) -> Code:
    with pytest.raises(Failure) as caught:
        await running.stub(MonitorsStub, "logs").RecordOutcomes(request)
    return caught.value.code


async def test_each_version_is_measured_on_what_happened(centre: House, tmp_path: Path) -> None:
    stub = centre.stub(MonitorsStub, "logs")
    early = await stub.RecordOutcomes(outcomes(("a", 0, 1)))
    await tell(
        centre, prediction("a", 1, 0.9, 0.2, 0.4), prediction("b", 2, 0.5), prediction("c", 1, 0.9, tenant="rival")
    )
    await measured(centre, 2)
    later = await stub.RecordOutcomes(outcomes(("a", 0, 1), ("a", 1, 0), ("b", 0, 1), ("unknown", 0, 1), ("a", 9, 1)))

    first, second = await measured(centre, 2)

    assert (early.recorded, later.recorded, later.known) == (1, 4, 1)
    assert (first.version, first.predictions, first.with_outcome, first.auc) == (1, 3, 2, 1.0)
    assert (first.base_rate, first.mean_score) == (0.5, pytest.approx(0.55))
    assert (second.version, second.with_outcome, second.HasField("auc")) == (2, 1, False)
    assert await quality(centre, "rival") != [first, second]
    assert await quality(centre, "nobody") == []


async def test_what_was_told_stays_over_a_restart(tmp_path: Path) -> None:
    async with logs(tmp_path) as first:
        await tell(first, prediction("a", 1, 0.9, 0.2))
        await measured(first)
        await first.stub(MonitorsStub, "logs").RecordOutcomes(outcomes(("a", 0, 1), ("a", 1, 0)))
    async with logs(tmp_path) as again:
        (found,) = await quality(again)

    assert (found.predictions, found.with_outcome, found.auc) == (2, 2, 1.0)


async def test_an_outcome_does_not_change(centre: House) -> None:
    stub = centre.stub(MonitorsStub, "logs")
    await stub.RecordOutcomes(outcomes(("a", 0, 1)))

    assert await code_of(centre, outcomes(("b", 0, 1), ("a", 0, 0))) is Code.CONFLICT
    assert await code_of(centre, outcomes(("c", 0, 0), ("c", 0, 1))) is Code.CONFLICT
    assert (await stub.RecordOutcomes(outcomes(("b", 0, 1), ("b", 0, 1)))).known == 1


@pytest.mark.parametrize(
    "told", [("a", 0, 0.5), ("a", 0, float("nan")), ("a", -1, 1.0), ("a", 10**6, 1.0), ("", 0, 1.0)]
)
async def test_what_is_no_outcome_is_refused(centre: House, told: tuple[str, int, float]) -> None:
    assert await code_of(centre, outcomes(told)) is Code.INVALID_VALUE
    assert await code_of(centre, outcomes(("a", 0, 1), model="../x")) is Code.INVALID_NAME
    assert await code_of(centre, outcomes()) is Code.INVALID_VALUE


async def test_many_outcomes_at_once_are_taken(centre: House) -> None:
    stub = centre.stub(MonitorsStub, "logs")
    await tell(centre, prediction("big", 1, *(row / 5000 for row in range(5000))))
    await measured(centre)
    request = outcomes(
        *(("big", row, float(row % 2)) for row in range(5000)), *((f"r{n}", 0, 1.0) for n in range(1500))
    )

    assert (await stub.RecordOutcomes(request)).recorded == 6500
    assert (await stub.RecordOutcomes(request)).known == 6500
    (found,) = await quality(centre)
    assert (found.with_outcome, round(found.auc, 2)) == (5000, 0.5)


async def test_a_permission_is_needed(centre: House) -> None:
    with pytest.raises(Failure) as caught:
        await centre.stub(MonitorsStub, "logs", "quality.get").RecordOutcomes(outcomes(("a", 0, 1)))

    assert caught.value.code is Code.FORBIDDEN


async def test_a_segment_that_cannot_be_read_is_tried_again(
    centre: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look, failed = Ingest.after, list[str]()

    async def broken(self: Ingest, *place: Any) -> Any:
        found = await look(self, *place)
        if len(failed) < 2:  # monitors and subscriptions, or one of them twice
            failed.append("x")
            raise OSError("input/output error")
        return found

    monkeypatch.setattr(Ingest, "after", broken)
    await tell(centre, prediction("broken", 1, 0.9))
    await until(lambda: len(failed) == 2)

    await measured(centre)
    assert "input/output error" in caplog.text
