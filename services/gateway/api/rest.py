"""The REST surface: JSON in, one RPC, JSON out. Routes and rules come from the contract; no RPC has code here."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

from fastapi import FastAPI
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.exceptions import HTTPException
from starlette.requests import Request as WebRequest
from starlette.responses import Response
from starlette.routing import Route

from aimass.v1.options_pb2 import EFFECT_SAFE
from services.gateway import body
from services.gateway.api import negotiation, problem, routes, streams
from services.gateway.api.decoding import Decoder, parse
from services.gateway.api.encoding import encode
from services.gateway.calls import Caller, Calls, passed_metadata
from services.gateway.edge import SCOPE_KEY
from services.gateway.request import Request
from services.kit import telemetry
from services.kit.contract import HTTP_BODY, Method
from services.kit.errors import Code, Failure, Internal, InvalidValue, NotFound
from services.kit.rpc import SIZE

log = logging.getLogger(__name__)
JSON = "application/json"
CHUNK = 16 * 2**20
# Bytes from which on JSON is read and written beside the loop: a message of structs takes 0.1 ms per KiB.
_LARGE = 16 * 2**10
_VERSIONS = ("/v1", "/v2")
_VERSION = re.compile(r"/v[0-9]{1,4}(?=/|\Z)")


class Rest:
    """Endpoints of all routes."""

    def __init__(self, calls: Calls, leaving: asyncio.Event) -> None:
        """`leaving` is set when the door closes."""
        self._calls, self._leaving = calls, leaving
        self.table = routes.table(calls.methods())

    def mount(self, web: FastAPI) -> None:
        """Adds the routes; everything else is not found."""
        templates = {entry.template for entry in self.table}
        for entry in self.table:
            web.router.routes.append(Route(routes.path(entry.template, templates), _Endpoint(self, entry)))
        web.router.default = _nowhere
        web.add_exception_handler(Failure, _problem)
        web.add_exception_handler(HTTPException, _framework)
        web.add_exception_handler(body.Gone, _gone)

    async def answer(self, entry: routes.Entry, web: WebRequest) -> Response:
        """Answers a request on a path of the table. Raises Failure."""
        request: Request = web.scope[SCOPE_KEY]
        method = entry.verbs.get("GET" if request.method == "HEAD" else request.method)
        if method is None:
            raise problem.NotAllowed(request.method, entry.allowed)
        if method.policy.cost > 1 and request.charge:  # the edge has taken the token that every request costs
            await request.charge.more(method.policy.cost - 1, method.policy.costly)
        passed = passed_metadata(lambda name: request.find_header(name) or "")
        caller = Caller(request.principal, request.request_id, request.address, passed, request.charge)
        name, tenant = f"{request.method} {entry.template}", request.principal.scope.tenant
        with telemetry.span(name, caller.trace, telemetry.Kind.SERVER, tenant=tenant) as span:
            offers = _offers(method)
            accepted = negotiation.chosen(request.header(b"accept"), offers) if offers else ""
            message = await _message(method, request, web.path_params)
            if not method.descriptor.server_streaming:
                response = await self._unary(method, message, caller, request)
                span.set_attribute("http.response.status_code", response.status_code)
                return response
            items = self._calls.stream(method, message, caller, request.timeout, _decoder(method))
            if not offers:
                async with _while_there(request.receive):
                    return await streams.download(items)
            return await streams.respond(items, accepted, request.logged_path, request.request_id, self._leaving)

    async def _unary(self, method: Method, message: Message, caller: Caller, request: Request) -> Response:
        call = self._calls.unary(method, message, caller, request.timeout, _decoder(method))
        reply, replayed = await _unless_gone(call, request.receive)
        headers = {"cache-control": "no-store"}
        if replayed:
            headers["idempotency-replayed"] = "true"
        if etag := getattr(reply, "etag", ""):
            headers["etag"] = f'"{etag}"'
            same = method.policy.effect == EFFECT_SAFE and not method.policy.drifts
            if same and negotiation.known(request.header(b"if-none-match"), etag):
                return Response(status_code=304, headers=headers)
        if method.long_work:
            headers["location"] = f"/v1/operations/{reply.operation}"
        large = reply.ByteSize() > _LARGE
        content = await asyncio.to_thread(encode, reply) if large else encode(reply)
        # What has an etag is always the same bytes. What changes something may stand beside a secret.
        if method.policy.effect == EFFECT_SAFE and not etag and not request.receipt:
            content = await negotiation.packed(content, request.header(b"accept-encoding"), headers)
        return Response(content, 202 if method.long_work else 200, headers, JSON)


class _Endpoint:
    """One path of the table, as an ASGI application: it sees every verb, also those the path does not have."""

    def __init__(self, rest: Rest, entry: routes.Entry) -> None:
        self._rest, self._entry = rest, entry

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            response = await self._rest.answer(self._entry, WebRequest(scope, receive, send))
        except (Failure, body.Gone):
            raise
        except Exception:
            log.exception("unhandled error", extra={"request_id": scope[SCOPE_KEY].request_id})
            raise Internal("internal error") from None
        await response(scope, receive, send)


async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
    found = _VERSION.match(scope["path"])
    if found and found[0] not in _VERSIONS:
        raise Failure(Code.UNKNOWN_VERSION, f"the API has no version {found[0][1:]} here, but v1 and v2")
    raise NotFound("there is no such path")


async def _problem(web: WebRequest, failure: Exception) -> Response:
    assert isinstance(failure, Failure)
    request: Request = web.scope[SCOPE_KEY]
    headers = {name.decode(): value.decode() for name, value in problem.headers(failure)}
    if failure.code is Code.BODY_TOO_LARGE:
        headers["connection"] = "close"
    return Response(
        problem.dump(request.cleaned(failure), request.logged_path, request.request_id), failure.code.http, headers
    )


async def _framework(web: WebRequest, error: Exception) -> Response:
    """Pages have no entry in the table; what the framework says of a wrong verb becomes a problem like all others."""
    assert isinstance(error, HTTPException)
    if error.status_code != Code.METHOD_NOT_ALLOWED.http:
        return await _problem(web, NotFound("there is no such path"))
    allowed = (error.headers or {}).get("Allow", "GET").split(", ")
    return await _problem(web, problem.NotAllowed(web.method, ", ".join(sorted(allowed))))


async def _gone(web: WebRequest, gone: Exception) -> Response:
    return Response(status_code=Code.CANCELLED.http)  # for the access log: the client has gone


async def _message(method: Method, request: Request, path: dict[str, str]) -> Message:
    """Joins body, path and query to one message; a field may come from one of them only."""
    message, decoder = GetMessageClass(method.takes)(), Decoder()
    fields = await _body(method, request, message)
    large = len(fields) > 100 or body.declared(request.headers) > _LARGE
    decoder.texts(message, {name: [unquote(value)] for name, value in path.items()})
    query = _query(request.query)
    for name in [*query, *fields]:
        if name in path:
            decoder.wrong(f"/{name}", "is set by the path")
    if method.body == "*" and query:
        decoder.wrong(f"/{next(iter(query))[:100]}", "belongs in the body")
    elif method.body:
        query.pop(method.body, None)
    decoder.texts(message, {name: values for name, values in query.items() if name not in path})
    kept = {name: value for name, value in fields.items() if name not in path}
    if large:
        await asyncio.to_thread(decoder.fill, message, kept)
    else:
        decoder.fill(message, kept)
    decoder.raise_wrong()
    return message


async def _body(method: Method, request: Request, message: Any) -> dict[str, Any]:
    """The fields of a JSON body; raw bytes go into the message at once."""
    raw = bool(method.body) and method.body != "*"
    content = await request.body(CHUNK if raw else SIZE)
    if raw:
        part = getattr(message, method.body)
        part.data = content
        part.content_type = request.header(b"content-type")[:200]
        return {}
    if not content:
        return {}
    if not method.body:
        raise InvalidValue("this request takes no body")
    negotiation.require_json(request.header(b"content-type"))
    return await asyncio.to_thread(parse, content) if len(content) > _LARGE else parse(content)


def _query(text: bytes) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=1100)
    except ValueError:
        raise InvalidValue("the query cannot be read") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _offers(method: Method) -> tuple[str, ...]:
    """The media types that a caller can choose from; none for a download, which has that of its upload."""
    if not method.descriptor.server_streaming:
        return (JSON,)
    return (streams.EVENTS, streams.LINES) if method.gives.full_name != HTTP_BODY else ()


def _decoder(method: Method) -> Callable[[bytes], Any]:
    return GetMessageClass(method.gives).FromString


async def _unless_gone(call: Awaitable[Any], receive: body.Receive) -> Any:
    """The result of a call, which is cancelled when the client disconnects. Raises Gone."""
    work = asyncio.ensure_future(call)
    watch = asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise body.Gone
        return work.result()
    finally:
        for task in (work, watch):
            task.cancel()
        with contextlib.suppress(BaseException):
            await work


@contextlib.asynccontextmanager
async def _while_there(receive: body.Receive) -> AsyncIterator[None]:
    """Ends what its task does when the client disconnects, in this task: a stream is bound to it. Raises Gone."""
    task, gone = asyncio.current_task(), False
    assert task

    async def watch() -> None:
        nonlocal gone
        await _hung_up(receive)
        gone = True
        task.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise body.Gone from None
    finally:
        watching.cancel()


async def _hung_up(receive: body.Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
