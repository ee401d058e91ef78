"""A tenant who registers, releases and asks: calls of registry and inference as one of his keys makes them."""

from typing import Any

import numpy
from google.protobuf.duration_pb2 import Duration

from aimass.v1 import engines_pb2, models_pb2, operations_pb2, releases_pb2
from aimass.v1.artifacts_pb2_grpc import ArtifactsStub
from aimass.v1.engines_pb2_grpc import EnginesStub
from aimass.v1.gateway_events_pb2 import ReleaseApplied
from aimass.v1.inference_events_pb2 import EngineChanged
from aimass.v1.jobs_pb2 import Job, JobSpec
from aimass.v1.models_pb2_grpc import ModelsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.releases_pb2_grpc import ReleasesStub
from aimass.v1.trainer_events_pb2 import TrainingSucceeded
from aimass.v1.workers_pb2 import RunArtifact
from services.kit.errors import Failure
from services.kit.timestamps import uuid7
from tests.support import models
from tests.support.house import House, until


class Tenant:
    """One tenant of a house."""

    def __init__(self, house: House, name: str = "acme") -> None:
        self.house, self.name = house, name

    def models(self, *permissions: str, **metadata: str) -> Any:
        return self.house.stub(ModelsStub, "registry", *permissions, tenant=self.name, **metadata)

    def artifacts(self, *permissions: str, **metadata: str) -> Any:
        return self.house.stub(ArtifactsStub, "registry", *permissions, tenant=self.name, **metadata)

    def releases(self, *permissions: str, **metadata: str) -> Any:
        return self.house.stub(ReleasesStub, "registry", *permissions, tenant=self.name, **metadata)

    def engines(self, *permissions: str, **metadata: str) -> Any:
        return self.house.stub(EnginesStub, "inference", *permissions, tenant=self.name, **metadata)

    async def register(self, model: str, data: bytes) -> int:
        """The number of a new version."""
        return await models.register(self.house, model, data, self.name)

    async def trained(
        self, model: str, data: bytes, job: str = "", labels: dict[str, str] | None = None, **fields: Any
    ) -> str:
        """What the trainer does at the end of a job: stores its files and says so; returns the job."""
        blobs, job = self.house.runtime.blobs, job or uuid7()
        digest = await blobs.put(self.name, data)
        spec = JobSpec(model=model, feature_set=model, feature_set_version=1, labels=labels)
        event = TrainingSucceeded(
            job=Job(job=job, run=job, spec=spec),
            manifest_digest=await blobs.put(self.name, f"{digest} {job}".encode()),
            artifacts=[RunArtifact(name="model.onnx", digest=digest, size=len(data))],
            signature=models.signature(data),
            **fields,
        )
        await self.house.publish(event, "jobs", job, tenant=self.name)
        return job

    async def add(self, model: str, *graphs: bytes) -> None:
        """Versions of a new model as the trainer makes them: quicker than uploads, which are looked at first."""
        for data in graphs:
            await self.trained(model, data)
        request = models_pb2.GetModelVersionRequest(model=model, version=len(graphs))

        async def there() -> bool:
            return await code_of(self.models().GetModelVersion(request)) == "ok"

        await until(there)

    async def version(self, model: str, number: int) -> models_pb2.ModelVersion:
        found = await self.models().GetModelVersion(models_pb2.GetModelVersionRequest(model=model, version=number))
        assert isinstance(found, models_pb2.ModelVersion)
        return found

    async def release(self, model: str) -> releases_pb2.Release:
        found = await self.releases().GetRelease(releases_pb2.GetReleaseRequest(model=model))
        assert isinstance(found, releases_pb2.Release)
        return found

    async def promote(self, model: str, version: int, **metadata: str) -> str:
        """The operation of a promotion that has begun."""
        request = releases_pb2.PromoteVersionRequest(model=model, version=version)
        return str((await self.releases(**metadata).PromoteVersion(request)).operation)

    async def roll_back(self, model: str) -> str:
        request = releases_pb2.RollbackReleaseRequest(model=model)
        return str((await self.releases().RollbackRelease(request)).operation)

    async def withdraw(self, model: str) -> str:
        request = releases_pb2.WithdrawReleaseRequest(model=model)
        return str((await self.releases().WithdrawRelease(request)).operation)

    async def ended(self, operation: str, seconds: int = 10) -> operations_pb2.Operation:
        """An operation after its end."""
        stub = self.house.stub(OperationsStub, "registry", tenant=self.name)
        request = operations_pb2.WaitOperationRequest(operation=operation, timeout=Duration(seconds=seconds))
        found = await stub.WaitOperation(request)
        assert found.HasField("end_time"), f"{operation} is {found.state}"
        assert isinstance(found, operations_pb2.Operation)
        return found

    async def switch(self, model: str, gateway: str = "gateway-1") -> None:
        """What a gateway says when it has switched to what is desired now."""
        release = await self.release(model)
        applied = ReleaseApplied(
            instance=gateway, model=model, generation=release.generation, version=release.desired.version
        )
        await self.house.publish(applied, "models", model, tenant=self.name)

    async def serve(self, model: str, version: int) -> operations_pb2.Operation:
        """A promotion from its begin to its end; without inference, somebody else says that it is loaded."""
        operation = await self.promote(model, version)
        if "inference" in self.house.runtime.hosted:
            await until(lambda: self.is_ready(model, version))
        await self.switch(model)
        return await self.ended(operation)

    async def engine_failed(self, model: str, version: int, generation: int, reason: str) -> None:
        """What an inference instance says when it cannot load a version."""
        state = engines_pb2.ENGINE_STATE_FAILED
        engine = engines_pb2.Engine(instance="i", model=model, version=version, state=state, reason=reason)
        event = EngineChanged(engine=engine, generation=generation)
        await self.house.publish(event, "models", model, tenant=self.name)

    async def listed(self) -> dict[tuple[str, int], int]:
        """The states of the tenant's engines by model and version."""
        reply = await self.engines().ListEngines(engines_pb2.ListEnginesRequest())
        return {(engine.model, engine.version): engine.state for engine in reply.engines}

    async def is_ready(self, model: str, version: int) -> bool:
        return (await self.listed()).get((model, version)) == engines_pb2.ENGINE_STATE_READY

    async def infer(self, model: str, version: int, *items: engines_pb2.InferItem) -> list[engines_pb2.InferResult]:
        request = engines_pb2.InferManyRequest(model=model, version=version, items=items)
        return list((await self.engines().InferMany(request)).results)


def item(array: Any, name: str = "x", request_id: str = "r", **fields: Any) -> engines_pb2.InferItem:
    """A request with one FP32 tensor."""
    values = numpy.asarray(array, dtype="<f4")
    tensor = engines_pb2.Tensor(name=name, datatype="FP32", shape=values.shape, raw=values.tobytes())
    return engines_pb2.InferItem(request_id=request_id, inputs=[tensor], **fields)


async def code_of(call: Any) -> str:
    """The code that a call fails with."""
    try:
        await call
    except Failure as failure:
        return failure.code.text
    return "ok"
