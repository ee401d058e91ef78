"""The RPCs of Monitors."""

from aimass.v1 import monitors_pb2 as pb
from services.kit.rpc import Call
from services.logs.monitors.domain import Outcome, Quality
from services.logs.monitors.service import Monitors


class MonitorsApi:
    """Live quality."""

    def __init__(self, monitors: Monitors) -> None:
        self._monitors = monitors

    async def RecordOutcomes(self, request: pb.RecordOutcomesRequest, call: Call) -> pb.RecordOutcomesResponse:
        given = [Outcome(one.request_id, one.row, one.value) for one in request.outcomes]
        recorded, known = await self._monitors.record(call.scope, request.model, given)
        return pb.RecordOutcomesResponse(recorded=recorded, known=known)

    async def GetQuality(self, request: pb.GetQualityRequest, call: Call) -> pb.GetQualityResponse:
        found = await self._monitors.quality(call.scope, request.model)
        return pb.GetQualityResponse(versions=map(to_wire, found))


def to_wire(one: Quality) -> pb.VersionQuality:
    """A version's quality as callers see it."""
    return pb.VersionQuality(
        version=one.version,
        predictions=one.predictions,
        with_outcome=one.with_outcome,
        auc=one.auc,
        log_loss=one.log_loss,
        base_rate=one.base_rate,
        mean_score=one.mean_score,
    )
