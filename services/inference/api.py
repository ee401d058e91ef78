"""The RPCs of engines, and events of releases."""

import asyncio
import time
from collections.abc import Callable

from aimass.v1 import engines_pb2 as pb
from aimass.v1.registry_events_pb2 import ReleaseChanged
from services.inference.service.inference import Inference
from services.inference.wire import (
    answer_to_wire,
    engine_to_wire,
    item_from_wire,
    joined_from_wire,
    release_from_wire,
    tensor_to_wire,
)
from services.kit.auth import SYSTEM
from services.kit.errors import Forbidden
from services.kit.inbox import Delivery
from services.kit.rpc import Call


class EnginesApi:
    """Servicer of aimass.v1.Engines, and handler of changed releases."""

    def __init__(self, inference: Inference, instance: str) -> None:
        self._inference, self._instance = inference, instance
        # Where on this host InferMany is taken as frames; 0: nowhere.
        self.frames_port: Callable[[], int] = lambda: 0

    async def ListEngines(self, request: pb.ListEnginesRequest, call: Call) -> pb.ListEnginesResponse:
        page = self._inference.page(call.scope, request.page_size, request.page_token)
        return pb.ListEnginesResponse(engines=map(engine_to_wire, page.items), next_page_token=page.next_token)

    async def SnapshotEngines(self, request: pb.SnapshotEnginesRequest, call: Call) -> pb.SnapshotEnginesResponse:
        if call.scope.tenant != SYSTEM:
            raise Forbidden("engines of all tenants are for services of the installation")
        engines = [
            pb.TenantEngine(tenant=scope.tenant, project=scope.project, engine=engine_to_wire(engine))
            for scope, engine in self._inference.all()
        ]
        return pb.SnapshotEnginesResponse(instance=self._instance, engines=engines, frames_port=self.frames_port())

    async def InferMany(self, request: pb.InferManyRequest, call: Call) -> pb.InferManyResponse:
        now = time.monotonic()
        latest = now + call.remaining()
        if request.HasField("joined"):
            await asyncio.sleep(0)
            joined = joined_from_wire(request.joined, now, latest)
            whole, answers = await self._inference.infer_joined(call.scope, request.model, request.version, joined)
            if whole is not None:
                return pb.InferManyResponse(joined=map(tensor_to_wire, whole))
            return pb.InferManyResponse(results=[answer_to_wire("", answer) for answer in answers])
        items = [item_from_wire(item, now, latest) for item in request.items]
        await asyncio.sleep(0)  # calls in a row must not starve the event loop
        answers = await self._inference.infer(call.scope, request.model, request.version, items)
        return pb.InferManyResponse(
            results=[answer_to_wire(item.request_id, answer) for item, answer in zip(items, answers, strict=True)]
        )

    async def release_changed(self, message: ReleaseChanged, delivery: Delivery) -> None:
        """What should serve or what serves has changed."""
        await self._inference.release_changed(delivery.scope, release_from_wire(message.release))
