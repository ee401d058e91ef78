"""The RPCs of models and versions, and the events of the trainer."""

import math
from collections.abc import Iterable

from aimass.v1 import models_pb2 as pb
from aimass.v1.artifacts_pb2 import ArtifactFile
from aimass.v1.trainer_events_pb2 import TrainingSucceeded
from aimass.v1.workers_pb2 import RunArtifact
from services.kit.errors import InvalidValue, Violation
from services.kit.inbox import Delivery
from services.kit.rpc import Call
from services.registry.models.domain import Contents, File
from services.registry.models.service import Models, Wanted
from services.registry.models.wire import model_to_wire, version_to_wire


class ModelsApi:
    """aimass.v1.Models, and what the trainer says."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def CreateModel(self, request: pb.CreateModelRequest, call: Call) -> pb.Model:
        once = call.once(model_to_wire)
        return model_to_wire(await self._models.create(call.scope, request.model, request.description, once))

    async def GetModel(self, request: pb.GetModelRequest, call: Call) -> pb.Model:
        return model_to_wire(await self._models.get(call.scope, request.model))

    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        page = await self._models.page(call.scope, request.page_size, request.page_token, request.show_deleted)
        return pb.ListModelsResponse(models=map(model_to_wire, page.items), next_page_token=page.next_token)

    async def DeleteModel(self, request: pb.DeleteModelRequest, call: Call) -> pb.Model:
        return model_to_wire(await self._models.delete(call.scope, request.model, call.etag))

    async def UndeleteModel(self, request: pb.UndeleteModelRequest, call: Call) -> pb.Model:
        return model_to_wire(await self._models.undelete(call.scope, request.model))

    async def CreateModelVersion(self, request: pb.CreateModelVersionRequest, call: Call) -> pb.ModelVersion:
        if bad := sorted(name for name, value in request.metrics.items() if not math.isfinite(value)):
            raise InvalidValue(f"{bad[0]} is not a number", [Violation(f"/metrics/{n}", "must be finite") for n in bad])
        files, once = _files(request.files), call.once(version_to_wire)
        serving = {field.name: value for field, value in request.serving.ListFields()}
        contents = Wanted(files, request.metrics, request.card, serving, request.labels)
        added = await self._models.add(call.scope, request.model, contents, once)
        return version_to_wire(added)

    async def GetModelVersion(self, request: pb.GetModelVersionRequest, call: Call) -> pb.ModelVersion:
        return version_to_wire(await self._models.version(call.scope, request.model, request.version))

    async def ListModelVersions(self, request: pb.ListModelVersionsRequest, call: Call) -> pb.ListModelVersionsResponse:
        size, token = request.page_size, request.page_token
        page = await self._models.versions(call.scope, request.model, size, token, request.show_deleted)
        return pb.ListModelVersionsResponse(versions=map(version_to_wire, page.items), next_page_token=page.next_token)

    async def DeleteModelVersion(self, request: pb.DeleteModelVersionRequest, call: Call) -> pb.ModelVersion:
        deleted = await self._models.delete_version(call.scope, request.model, request.version, call.etag)
        return version_to_wire(deleted)

    async def UndeleteModelVersion(self, request: pb.UndeleteModelVersionRequest, call: Call) -> pb.ModelVersion:
        return version_to_wire(await self._models.undelete_version(call.scope, request.model, request.version))

    async def training_succeeded(self, message: TrainingSucceeded, delivery: Delivery) -> None:
        """A job's files become a version."""
        job = message.job
        contents = Contents(
            files=tuple(_files(message.artifacts)),
            digest=message.manifest_digest,
            signature=message.signature.SerializeToString(deterministic=True),
            # A measure that came out as no number says nothing, and JSON has no word for it.
            metrics={name: value for name, value in message.metrics.items() if math.isfinite(value)},
            environment=dict(message.environment),
            card=message.card,
            run=job.run,
            job=job.job,
            feature_set=message.feature_set or f"{job.spec.feature_set}@{job.spec.feature_set_version}",
            data_set=message.data_set,
            labels=dict(job.spec.labels),
        )
        await self._models.trained(delivery.scope, job.spec.model, contents, delivery)


def _files(files: Iterable[ArtifactFile | RunArtifact]) -> list[File]:
    return [File(file.name, file.digest, file.size, file.media_type) for file in files]
