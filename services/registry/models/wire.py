"""Models and versions between the domain and the wire."""

from aimass.v1 import models_pb2 as pb
from aimass.v1.artifacts_pb2 import ArtifactFile
from services.kit.timestamps import to_wire
from services.registry.models.domain import File, Model, Stage, Version

_STAGES = {
    Stage.CANDIDATE: pb.STAGE_CANDIDATE,
    Stage.SERVING: pb.STAGE_SERVING,
    Stage.RETIRED: pb.STAGE_RETIRED,
    Stage.DELETED: pb.STAGE_DELETED,
}


def model_to_wire(model: Model) -> pb.Model:
    """A model as callers see it."""
    return pb.Model(
        model=model.model,
        description=model.description,
        latest_version=model.latest_version,
        etag=model.etag,
        create_time=to_wire(model.create_time),
        update_time=to_wire(model.update_time),
        delete_time=to_wire(model.delete_time),
    )


def version_to_wire(version: Version) -> pb.ModelVersion:
    """A version as callers see it."""
    made_of = version.contents
    return pb.ModelVersion(
        model=version.model,
        version=version.version,
        stage=_STAGES[version.stage],
        digest=made_of.digest,
        files=[file_to_wire(file) for file in made_of.files],
        signature=pb.Signature.FromString(made_of.signature),
        metrics=made_of.metrics,
        environment=made_of.environment,
        card=made_of.card,
        run=made_of.run,
        job=made_of.job,
        feature_set=made_of.feature_set,
        data_set=made_of.data_set,
        serving=pb.ServingSettings(**made_of.serving) if made_of.serving else None,
        labels=made_of.labels,
        etag=version.etag,
        create_time=to_wire(version.create_time),
        delete_time=to_wire(version.delete_time),
    )


def file_to_wire(file: File) -> ArtifactFile:
    """A file of a version."""
    return ArtifactFile(name=file.name, digest=file.digest, size=file.size, media_type=file.media_type)
