"""Engines, releases and tensors between the domain and the wire."""

from collections.abc import Iterable, Sequence

from aimass.v1 import engines_pb2 as pb
from aimass.v1 import models_pb2, releases_pb2
from services.inference.domain.batches import Answer, Item, Joined
from services.inference.domain.engines import Engine, Release, Released, Serving, State
from services.inference.domain.tensors import Signature
from services.kit.errors import Failure, InvalidValue
from services.kit.status import detail_of
from services.kit.tensors import Spec, Tensor
from services.kit.timestamps import to_wire as stamp

_STATES = {
    State.LOADING: pb.ENGINE_STATE_LOADING,
    State.READY: pb.ENGINE_STATE_READY,
    State.FAILED: pb.ENGINE_STATE_FAILED,
    State.UNLOADING: pb.ENGINE_STATE_UNLOADING,
}


def engine_to_wire(engine: Engine) -> pb.Engine:
    """An engine as callers see it."""
    return pb.Engine(
        instance=engine.instance,
        model=engine.model,
        version=engine.version,
        state=_STATES[engine.state],
        reason=engine.reason,
        ready_time=stamp(engine.ready_time),
        in_flight=engine.in_flight,
    )


def release_from_wire(release: releases_pb2.Release) -> Release:
    """What the registry says of a model."""
    return Release(
        model=release.model,
        generation=release.generation,
        desired=_released(release.desired) if release.HasField("desired") else None,
        serving=_released(release.serving) if release.HasField("serving") else None,
        previous=_released(release.previous) if release.HasField("previous") else None,
        awaited=bool(release.operation),
        shared=tuple(_released(version) for version in release.shared),
    )


def _released(version: releases_pb2.ReleasedVersion) -> Released:
    wants = version.serving
    serving = Serving(wants.instances, wants.max_batch_rows, wants.batch_delay_us)
    return Released(version.version, version.model_digest, signature_from_wire(version.signature), serving)


def signature_from_wire(signature: models_pb2.Signature) -> Signature:
    """What a version takes and gives."""
    return Signature(
        inputs=_specs(signature.inputs),
        outputs=_specs(signature.outputs),
        batch_invariant=signature.batch_invariant,
        checked_on=signature.checked_on,
    )


def _specs(specs: Sequence[models_pb2.TensorSpec]) -> tuple[Spec, ...]:
    return tuple(Spec(spec.name, spec.datatype, tuple(spec.shape)) for spec in specs)


def item_from_wire(item: pb.InferItem, now: float, latest: float) -> Item:
    """A caller's request; its deadline is at most `latest`, on the clock of `now`."""
    deadline = min(now + item.deadline_ms / 1000, latest) if item.deadline_ms else latest
    return Item(item.request_id, deadline, _tensors(item.inputs), tuple(item.outputs))


def joined_from_wire(joined: pb.InferJoined, now: float, latest: float) -> Joined:
    """Callers' requests in one. Raises invalid_value when something of one of them is missing."""
    rows, deadlines = list(joined.rows), [min(now + left / 1000, latest) for left in joined.deadlines_ms]
    if len(rows) != len(deadlines) or not rows or min(rows) < 1 or not joined.inputs:
        raise InvalidValue("each request that is joined has rows and a deadline")
    return Joined(rows, deadlines, _tensors(joined.inputs), tuple(joined.outputs))


def _tensors(tensors: Iterable[pb.Tensor]) -> list[Tensor]:
    return [Tensor(t.name, t.datatype, tuple(t.shape), t.raw) for t in tensors]


def tensor_to_wire(tensor: Tensor) -> pb.Tensor:
    """A tensor as it travels."""
    return pb.Tensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, raw=tensor.raw)


def answer_to_wire(request_id: str, answer: Answer) -> pb.InferResult:
    """What one caller gets."""
    if isinstance(answer, Failure):
        return pb.InferResult(request_id=request_id, failure=detail_of(answer), failure_text=answer.detail)
    return pb.InferResult(request_id=request_id, outputs=map(tensor_to_wire, answer))
