"""Releases on the wire."""

from aimass.v1 import releases_pb2 as pb
from aimass.v1.models_pb2 import ServingSettings, Signature
from services.kit.timestamps import to_wire as stamp
from services.registry.releases.domain import Release, Released, State

_STATES = {
    State.LOADING: pb.RELEASE_STATE_LOADING,
    State.SERVING: pb.RELEASE_STATE_SERVING,
    State.WITHDRAWN: pb.RELEASE_STATE_WITHDRAWN,
}


def release_to_wire(release: Release) -> pb.Release:
    """A release as callers see it."""
    return pb.Release(
        model=release.model,
        generation=release.generation,
        state=_STATES[release.state],
        desired=_released(release.desired),
        serving=_released(release.serving),
        previous=_released(release.previous),
        reason=release.reason,
        update_time=stamp(release.update_time),
        etag=release.etag,
        operation=release.operation,
    )


def _released(version: Released | None) -> pb.ReleasedVersion | None:
    if version is None:
        return None
    return pb.ReleasedVersion(
        version=version.version,
        digest=version.digest,
        model_digest=version.model_digest,
        signature=Signature.FromString(version.signature),
        serving=ServingSettings(**version.serving) if version.serving else None,
        labels=version.labels,
    )
