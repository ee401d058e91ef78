"""The Open Inference Protocol, version 2, over HTTP, with the binary tensor extension: everything under /v2.

The hot path: raw bytes in, raw bytes out; it never passes through a framework.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from services.gateway import body
from services.gateway.api.oip import DEADLINE, PLATFORM, about, described, permit
from services.gateway.api.oip_body import Asked, decode, encode
from services.gateway.api.oip_values import dump
from services.gateway.api.problem import NotAllowed
from services.gateway.charging import stated
from services.gateway.overload.priority import HEADER, Priority, lowered
from services.gateway.request import Request, Response
from services.gateway.traffic.service import Prediction, Query, Traffic
from services.kit.errors import Code, Failure, InvalidValue, NotFound, Unavailable

_LONGEST = 60.0  # seconds
_FIRST = HEADER.encode()
_JSON = 4 * 2**20
_BINARY = 16 * 2**20
LARGE = 65_536  # bytes of JSON above which reading and writing it leave the event loop
_JSON_TYPE = (b"content-type", b"application/json")
_BINARY_TYPE = (b"content-type", b"application/octet-stream")
_CONTENT_TYPES = (b"", b"application/json", b"application/octet-stream")
# A request, the model and version that it names, the seconds that its caller waits, and its priority.
Learn = Callable[[Request, str, str, float, Priority], None]


class OipRest:
    """The door's handler."""

    def __init__(self, traffic: Traffic, learn: Learn, ready: Callable[[], bool], version: str) -> None:
        """`learn` is told of each request that was answered well; `ready` says whether the process can answer;
        `version` is the server's own."""
        self._traffic, self._learn, self._ready, self._version = traffic, learn, ready, version

    async def handle(self, request: Request) -> Response:
        """Answers one request. Raises Failure."""
        parts = request.path.split("/")[2:]
        match parts:
            case ["models", model, "infer"]:
                return await self._infer(request, model, "")
            case ["models", model, "versions", version, "infer"]:
                return await self._infer(request, model, version)
        _readable(request)
        match parts:
            case ["models", model, *rest] if model:
                return self._model(request, model, rest)
            case [] | [""]:
                return _read(about(self._version))
            case ["health", "live"]:
                return _read({"live": True})
            case ["health", "ready"]:
                if not self._ready():
                    raise Unavailable("the server is not ready", retry_after=1)
                return _read({"ready": True})
        raise NotFound(f"there is no {request.path[:200]}")

    def _model(self, request: Request, model: str, rest: list[str]) -> Response:
        """The inputs and outputs of a model, or its readiness."""
        version = ""
        if rest[:1] == ["versions"] and len(rest) > 1:
            version, rest = rest[1], rest[2:]
        if rest not in ([], ["ready"]):
            raise NotFound(f"there is no {request.path[:200]}")
        permit(request.principal, model)
        request.model, request.version = model, version
        pinned = self._traffic.route(request.principal.scope, model, version)
        method = "ModelReady" if rest else "ModelMetadata"
        self._traffic.inspect(request.principal, pinned, request.address, method)
        label = (b"model-version", pinned.version.label.encode())
        if rest:
            return _read({"name": model, "ready": True}, label)
        numbers = [pinned.version.number] if version else self._traffic.versions(request.principal.scope, model)
        signature = pinned.version.signature
        document = {
            "name": model,
            "versions": [str(number) for number in numbers],
            "platform": PLATFORM,
            "inputs": [described(spec) for spec in signature.inputs],
            "outputs": [described(spec) for spec in signature.outputs],
        }
        return _read(document, label)

    async def _infer(self, request: Request, model: str, version: str) -> Response:
        if request.method != "POST":
            raise NotAllowed(request.method, "POST")
        permit(request.principal, model)
        request.model, request.version = model, version
        deadline = time.monotonic() + (seconds := min(request.timeout or DEADLINE, _LONGEST))
        first = lowered(Priority.INTERACTIVE, request.header(_FIRST))
        principal = request.principal
        pinned = self._traffic.pin(principal.scope, model, version, principal.id, request.find_header)
        request.version = str(pinned.version.number)
        self._traffic.screen(principal.scope, pinned, deadline, first)
        asked = await _decode(request)
        if request.charge:
            request.charge.tokens = stated(request.header(b"x-tokens"))
        query = Query(
            request.request_id,
            deadline,
            asked.inputs,
            asked.outputs,
            principal,
            request.address,
            request.header(b"traceparent"),
            priority=first,
            charge=request.charge,
        )
        prediction = await self._traffic.predict(pinned, query)
        request.recorded = True
        request.version, request.degraded = str(prediction.pinned.version.number), prediction.degraded
        self._learn(request, model, version, seconds, first)
        return await _encode(asked, prediction)


def _readable(request: Request) -> None:
    """Raises method_not_allowed, invalid_value for what is no question."""
    if request.method not in ("GET", "HEAD"):
        raise NotAllowed(request.method, "GET, HEAD")
    if body.declared(request.headers):
        raise InvalidValue("this request takes no body")


def _read(document: dict[str, Any], *headers: tuple[bytes, bytes]) -> Response:
    return Response(200, dump(document), [_JSON_TYPE, *headers])


async def _decode(request: Request) -> Asked:
    headers = request.headers
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and kind.partition(b";")[0].strip().lower() not in _CONTENT_TYPES:
        raise Failure(Code.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json or application/octet-stream")
    length = headers.get(b"inference-header-content-length")
    if length is None:
        size, content = None, await request.body(_JSON)
    elif length.isdigit() and len(length) < 10:
        size, content = int(length), await request.body(_BINARY)
    else:
        raise Failure(Code.BAD_FRAMING, "Inference-Header-Content-Length must be a number of bytes")
    if (len(content) if size is None else size) > LARGE:
        return await asyncio.to_thread(decode, content, size)
    return decode(content, size)


async def _encode(asked: Asked, prediction: Prediction) -> Response:
    if sum(len(tensor.raw) for tensor in prediction.outputs) > LARGE:
        return await asyncio.to_thread(answered, asked, prediction)
    return answered(asked, prediction)


def answered(asked: Asked, prediction: Prediction) -> Response:
    """A prediction as its request wants it."""
    encoded = encode(asked, prediction)
    headers = [(b"model-version", prediction.pinned.version.label.encode())]
    if prediction.degraded:
        headers.append((b"degraded", prediction.degraded.encode()))
    if not encoded.json_size:
        return Response(200, encoded.body, [_JSON_TYPE, *headers])
    headers.append((b"inference-header-content-length", str(encoded.json_size).encode()))
    return Response(200, encoded.body, [_BINARY_TYPE, *headers])
