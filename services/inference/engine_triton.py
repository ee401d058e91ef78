"""A Triton server over gRPC: versions in and out through its repository, calls of them, whether it is there."""

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from grpc import aio
from tritonclient.grpc import service_pb2 as pb

from services.inference.domain.tensors import Values, decode, encode
from services.inference.triton.http import HttpDoor
from services.inference.triton.server import Broken, Gone, Refused
from services.kit.config import ConfigError
from services.kit.errors import Code, DeadlineExceeded, Failure, InvalidValue, Unavailable
from services.kit.tls import Credentials

log = logging.getLogger(__name__)
_SERVICE = "/inference.GRPCInferenceService/"
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that comes back is found soon; one that says nothing any more is noticed by our own looks at it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),
)
_LOAD, _ASK = 120.0, 2.0  # seconds for a version to load, and for a question about it
_WHY = re.compile(r"(?:Internal|Invalid argument|Unavailable): ([^\n;]*)")
# Whose time depends on the graph, and what is asked of one version.
_OF_A_GRAPH = ("ModelInfer", "RepositoryModelLoad")
_OF_A_VERSION = ("ModelInfer", "ModelReady", "ModelConfig", "RepositoryModelUnload")
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class TritonServer:
    """One server. Its failures become ours; its texts are never shown to callers of a model."""

    def __init__(self, url: str, credentials: Credentials | None = None, http: str = "") -> None:
        """`url`: triton://host:port, or tritons://host:port for TLS both ways. `http`: its HTTP door, host:port.

        Opens nothing. Raises ConfigError.
        """
        scheme, _, self._address = url.partition("://")
        if scheme not in ("triton", "tritons") or not re.fullmatch(r"[^/,]+:\d+", self._address):
            raise ConfigError("AIMASS_INFERENCE_ENGINE: must be triton://host:port or tritons://host:port")
        if scheme == "tritons" and credentials is None:
            raise ConfigError("AIMASS_INFERENCE_ENGINE: tritons:// needs AIMASS_TLS_DIR")
        if http and (scheme == "tritons" or not re.fullmatch(r"[^/,]+:\d+", http)):
            raise ConfigError("AIMASS_INFERENCE_ENGINE_HTTP: must be host:port, and goes with triton:// only")
        self._http = HttpDoor(http) if http else None
        self.answered = 0.0
        self._credentials = credentials if scheme == "tritons" else None
        self._channel: aio.Channel | None = None
        self._methods: dict[str, Any] = {}
        self._ending: list[asyncio.Task[None]] = []

    async def alive(self, seconds: float) -> bool:
        """Whether it answers within that time."""
        try:
            return bool((await self._call("ServerLive", pb.ServerLiveRequest(), seconds)).live)
        except Failure:
            return False

    async def loaded(self) -> set[str]:
        """The names of the versions it has. Raises unavailable."""
        reply = await self._call("ModelStatistics", pb.ModelStatisticsRequest(), _ASK)
        return {model.name for model in reply.model_stats}

    async def parameter(self, name: str, parameter: str) -> str:
        """What the description of a version that is ready says; empty when it is not there. Raises unavailable."""
        try:
            if not (await self._call("ModelReady", pb.ModelReadyRequest(name=name), _ASK)).ready:
                return ""
            config = (await self._call("ModelConfig", pb.ModelConfigRequest(name=name), _ASK)).config
        except Gone:
            return ""
        return str(config.parameters[parameter].string_value)

    async def load(self, name: str, config: str, files: Mapping[str, bytes]) -> None:
        """Raises invalid_value with the reason when it does not load, deadline_exceeded, unavailable."""
        request = pb.RepositoryModelLoadRequest(model_name=name)
        request.parameters["config"].string_param = config
        for path, data in files.items():
            request.parameters[f"file:{path}"].bytes_param = data
        await self._call("RepositoryModelLoad", request, _LOAD)

    async def unload(self, name: str) -> None:
        """Ends when it is asked for: what is under way ends well. Raises unavailable."""
        await self._call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name), _LOAD)

    async def infer(
        self, name: str, inputs: Sequence[tuple[str, Values]], outputs: Sequence[str], seconds: float
    ) -> dict[str, Values]:
        """The outputs by name. Raises Refused, Gone, unavailable, deadline_exceeded."""
        if self._http:
            until = time.monotonic() + seconds
            if found := await self._http.infer(name, inputs, outputs, seconds):
                self.answered = time.monotonic()
                return found
            seconds = max(until - time.monotonic(), 0.001)
        request = pb.ModelInferRequest(
            model_name=name,
            inputs=[_Input(name=n, datatype=v.datatype, shape=v.shape) for n, v in inputs],
            outputs=[_Output(name=n) for n in outputs],
            raw_input_contents=[v.data if isinstance(v.data, bytes) else encode(v.data) for _, v in inputs],
        )
        reply = await self._call("ModelInfer", request, seconds)
        raws = zip(reply.outputs, reply.raw_output_contents, strict=True)
        return {output.name: _values(output, raw) for output, raw in raws}

    async def watch(self) -> None:
        if self._credentials:
            await self._credentials.watch(self.renew)

    def renew(self) -> None:
        """Connects anew for what comes next: certificates have changed."""
        if self._channel and self._credentials:
            self._ending.append(asyncio.get_running_loop().create_task(self._channel.close(grace=_LOAD)))
            self._channel, self._methods = None, {}

    async def close(self) -> None:
        if self._http:
            self._http.close()
        if self._channel:
            await self._channel.close()
        for task in self._ending:
            task.cancel()

    async def _call(self, method: str, request: Any, seconds: float) -> Any:
        call = self._methods.get(method) or self._method(method)
        try:
            reply = await call(request, timeout=seconds)
        except aio.AioRpcError as error:
            raise _failure(method, error) from None
        self.answered = time.monotonic()
        return reply

    def _method(self, method: str) -> Any:
        if self._channel is None:
            self._channel = self._open()
        kind = getattr(pb, f"{method}Request")
        found = self._channel.unary_unary(
            _SERVICE + method, kind.SerializeToString, getattr(pb, f"{method}Response").FromString
        )
        return self._methods.setdefault(method, found)

    def _open(self) -> aio.Channel:
        if self._credentials is None:
            return aio.insecure_channel(self._address, options=_OPTIONS)
        shown, options = self._credentials.channel("triton")
        return aio.secure_channel(self._address, shown, options=(*_OPTIONS, *options))


_Input, _Output = pb.ModelInferRequest.InferInputTensor, pb.ModelInferRequest.InferRequestedOutputTensor


def _values(output: Any, raw: bytes) -> Values:
    shape = tuple(output.shape)
    if output.datatype != "BYTES":
        return Values(output.datatype, shape, raw)
    count = 1
    for size in shape:
        count *= size
    return Values("BYTES", shape, decode(raw, count))


def _failure(method: str, error: aio.AioRpcError) -> Exception:
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        if method in _OF_A_GRAPH:
            return DeadlineExceeded("the model took too long")
        return Unavailable("the model's engine does not answer in time", retry_after=1)
    if method == "RepositoryModelLoad" and code not in _AWAY:
        found = _WHY.search(text)
        return InvalidValue(found[1] if found else "Triton does not load it")
    if method == "ModelInfer" and _refuses(code, text):
        return Refused(text)
    if "tub process" in text:
        return Broken(text)
    lost = code is grpc.StatusCode.NOT_FOUND or "unknown model" in text or "not ready" in text
    if lost and method in _OF_A_VERSION:
        return Gone(text)
    if code in _AWAY:
        return Unavailable("the model's engine is away", retry_after=1)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Failure(Code.BODY_TOO_LARGE, "the rows are too many for one call")
    # What a graph refuses was said before, so this is the server's own trouble: it stops, or it is short.
    log.warning("triton fails in %s: %s %s", method, code.name, text[:300])
    return Unavailable("the model's engine fails", retry_after=1)


def _refuses(code: grpc.StatusCode, text: str) -> bool:
    """Whether a graph refused values. Known by code and beginning: the rest of the text has names that its maker chose.

    Triton's own back end for ONNX says that something internal has failed.
    """
    if code is grpc.StatusCode.INTERNAL:
        return text.startswith("onnx runtime error")
    return code is grpc.StatusCode.INVALID_ARGUMENT
