"""The Open Inference Protocol over gRPC: the six methods of inference.GRPCInferenceService as published."""

import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from services.gateway.api.oip import DEADLINE, PLATFORM, about, described, permit
from services.gateway.api.oip_messages import SERVICE, message
from services.gateway.api.oip_values import framed, wrong
from services.gateway.grpc_call import GrpcCall, current
from services.gateway.overload.priority import HEADER, Priority, lowered
from services.gateway.traffic.domain.routing import Pinned
from services.gateway.traffic.service import Query, Traffic
from services.kit import telemetry
from services.kit.auth import Principal
from services.kit.errors import Code, Failure
from services.kit.fields import read
from services.kit.tensors import Tensor

_SHOWN = 128  # characters of what a caller asked for that the access log shows
Admit = Callable[[GrpcCall], Awaitable[tuple[Principal, str]]]
# Which field of InferTensorContents holds a datatype, and how struct writes it.
_CONTENTS = {
    "BOOL": ("bool_contents", "?"),
    "INT8": ("int_contents", "b"),
    "INT16": ("int_contents", "h"),
    "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"),
    "UINT8": ("uint_contents", "B"),
    "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"),
    "UINT64": ("uint64_contents", "Q"),
    "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"),
}


class OipGrpc:
    """The door's methods; what they raise becomes a status in `Forward`."""

    def __init__(self, traffic: Traffic, admit: Admit, ready: Callable[[], bool], version: str) -> None:
        """`admit` identifies the caller and takes from its bucket; `version` is the server's own."""
        self._traffic, self._admit, self._ready, self._version = traffic, admit, ready, version

    def handlers(self) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        """Handlers by the path of their method."""
        methods = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }
        return {f"/{SERVICE}/{name}": self._handler(name, method) for name, method in methods.items()}

    def _handler(self, name: str, method: Any) -> Any:
        parse = message(f"{name}Request").FromString

        async def answer(content: bytes, context: Any) -> Any:
            call = current.get()
            call.content = content
            with telemetry.span(f"{SERVICE}/{name}", call.metadata, telemetry.Kind.SERVER) as span:
                principal, request_id = await self._admit(call)
                span.set_attribute("request_id", request_id)
                telemetry.belongs(principal.scope, "gateway")
                reply, metadata = await method(read(parse, content), principal, call, context.time_remaining())
                if metadata:
                    await context.send_initial_metadata((*metadata.items(), ("x-request-id", request_id)))
                if call.receipt:
                    call.receipt.metadata |= metadata
                return reply

        # The bytes as they came: a signature is over them.
        return grpc.unary_unary_rpc_method_handler(answer, None, lambda reply: reply.SerializeToString())

    def _route(self, call: GrpcCall, principal: Principal, model: str, version: str) -> Pinned:
        """The version that answers, noted for the access log. Raises not_found, unavailable."""
        call.model, call.version = model[:_SHOWN], version[:_SHOWN]
        pinned = self._traffic.route(principal.scope, model, version)
        call.model, call.version = model, str(pinned.version.number)
        return pinned

    async def _server_live(self, _request: Any, *_: Any) -> Any:
        return message("ServerLiveResponse")(live=True), {}

    async def _server_ready(self, _request: Any, *_: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._ready()), {}

    async def _server_metadata(self, _request: Any, *_: Any) -> Any:
        return message("ServerMetadataResponse")(**about(self._version)), {}

    async def _model_ready(self, request: Any, principal: Principal, call: GrpcCall, _: float | None) -> Any:
        permit(principal, request.name)
        try:
            pinned = self._route(call, principal, request.name, request.version)
        except Failure as failure:
            if failure.code is not Code.UNAVAILABLE:
                raise
            return message("ModelReadyResponse")(ready=False), {}
        self._traffic.inspect(principal, pinned, call.peer, "ModelReady")
        return message("ModelReadyResponse")(ready=True), {"model-version": pinned.version.label}

    async def _model_metadata(self, request: Any, principal: Principal, call: GrpcCall, _: float | None) -> Any:
        permit(principal, request.name)
        pinned = self._route(call, principal, request.name, request.version)
        self._traffic.inspect(principal, pinned, call.peer, "ModelMetadata")
        number, signature = pinned.version.number, pinned.version.signature
        loaded = [number] if request.version else self._traffic.versions(principal.scope, request.name)
        reply = message("ModelMetadataResponse")(
            name=request.name,
            versions=[str(one) for one in loaded],
            platform=PLATFORM,
            inputs=[described(spec) for spec in signature.inputs],
            outputs=[described(spec) for spec in signature.outputs],
        )
        return reply, {"model-version": pinned.version.label}

    async def _model_infer(self, request: Any, principal: Principal, call: GrpcCall, remaining: float | None) -> Any:
        permit(principal, request.model_name)
        priority = lowered(Priority.INTERACTIVE, call.metadata.get(HEADER, ""))
        model, scope = request.model_name, principal.scope
        call.model, call.version = model[:_SHOWN], request.model_version[:_SHOWN]
        pinned = self._traffic.pin(scope, model, request.model_version, principal.id, call.metadata.get)
        call.model, call.version = model, str(pinned.version.number)
        deadline = time.monotonic() + (DEADLINE if remaining is None else min(remaining, DEADLINE))
        self._traffic.screen(scope, pinned, deadline, priority)
        query = Query(
            call.request_id,
            deadline,
            _inputs(request),
            [output.name for output in request.outputs],
            principal,
            call.peer,
            priority=priority,
            charge=call.charge,
        )
        prediction = await self._traffic.predict(pinned, query)
        version = prediction.pinned.version
        call.version, call.degraded = str(version.number), prediction.degraded
        reply = message("ModelInferResponse")(
            model_name=prediction.pinned.model,
            model_version=str(version.number),
            id=request.id,
            outputs=[{"name": t.name, "datatype": t.datatype, "shape": t.shape} for t in prediction.outputs],
            raw_output_contents=[tensor.raw for tensor in prediction.outputs],
        )
        marks = {"degraded": prediction.degraded} if prediction.degraded else {}
        return reply, {"model-version": version.label} | marks


def _inputs(request: Any) -> list[Tensor]:
    """The inputs, whose values come all as raw bytes or each in the field of its datatype."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Failure(Code.BAD_FRAMING, f"raw_input_contents has {len(raw)} parts for {len(request.inputs)} inputs")
    tensors = []
    for index, part in enumerate(request.inputs):
        if "shared_memory_region" in part.parameters:
            raise wrong("the parameter shared_memory_region is not supported", f"/inputs/{index}/parameters")
        if raw and part.HasField("contents"):
            raise wrong(f"{part.name} has both contents and raw_input_contents", f"/inputs/{index}/contents")
        values = raw[index] if raw else _typed(part, f"/inputs/{index}")
        tensors.append(Tensor(part.name, part.datatype, tuple(part.shape), values))
    return tensors


def _typed(part: Any, at: str) -> bytes:
    if part.datatype == "BYTES":
        return b"".join(map(framed, part.contents.bytes_contents))
    if part.datatype not in _CONTENTS:
        raise wrong(f"{part.name} has the unknown datatype {part.datatype[:16]}", f"{at}/datatype")
    field, code = _CONTENTS[part.datatype]
    values = getattr(part.contents, field)
    try:
        return struct.pack(f"<{len(values)}{code}", *values)
    except struct.error:
        raise wrong(f"{part.name} is {part.datatype}: one of its values is out of range", f"{at}/contents") from None
