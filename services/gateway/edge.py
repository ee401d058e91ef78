"""The ASGI application of the HTTP door: checks, identity, limits, access log; then predictions, REST or pages."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.gateway import body, origins, screening
from services.gateway.access.origin import Origin
from services.gateway.access_log import AccessLog, Entry
from services.gateway.admission import Admission, log_refused
from services.gateway.api.problem import Packed
from services.gateway.calls import Calls
from services.gateway.charging import enough
from services.gateway.exchange import EXCHANGE_KEY
from services.gateway.http_protocol import WORK_KEY
from services.gateway.issuers.distrust import UnknownKey
from services.gateway.privacy.cleaner import Cleaner
from services.gateway.receipts import ASKS, Receipts
from services.gateway.request import Handler, Request, failed
from services.gateway.screening import Screen
from services.gateway.sender import Sender
from services.gateway.signatures import FIELDS, Head, Signed
from services.kit.auth import Principal, Scope
from services.kit.errors import Code, Failure, Internal, Unauthenticated

log = logging.getLogger(__name__)
SCOPE_KEY = "aimass"  # where the request lies in the ASGI scope
_NOBODY = Principal(Scope("", ""), "", ())
_PAGES = ("/", "/docs", "/openapi.json")
_BEARER = (b"www-authenticate", b'Bearer realm="aimass"')
_BASIC = (b"www-authenticate", b'Basic realm="aimass", charset="UTF-8"')
_WHO = (Code.UNAUTHENTICATED, Code.TOKEN_INVALID, Code.SIGNATURE_INVALID, Code.SIGNATURE_STALE)
_SIGNED, _ASKS = tuple(name.encode() for name in FIELDS), ASKS.encode()
_LONGEST = 16 * 2**20  # bytes of the longest body that any path takes
_CLOSING = (Code.BODY_TOO_LARGE, Code.REQUEST_TIMEOUT, Code.BAD_FRAMING, Code.HEADERS_TOO_LARGE)
Asgi = Callable[[Any, Any, Any], Awaitable[None]]


class Edge:
    """The ASGI application behind the HTTP door."""

    def __init__(
        self,
        screen: Screen,
        admission: Admission,
        access_log: AccessLog,
        public: Mapping[str, Handler],
        predictions: Handler,
        web: Asgi,
        calls: Calls,
        receipts: Receipts,
        cleaner: Cleaner,
        draining: Callable[[], bool],
    ) -> None:
        """`public` are handlers by path that answer without a key; `predictions` answers below /v2, `web` the rest.

        `cleaner` filters what is written down of requests.
        """
        self._screen, self._admission, self._access_log = screen, admission, access_log
        self._public, self._predictions, self._web = public, predictions, web
        self._calls, self._receipts, self._cleaner, self._draining = calls, receipts, cleaner, draining

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        begun = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        client = scope.get("client")
        scope["path"] = screening.path(scope["raw_path"])
        request = Request(
            scope["method"],
            scope["path"],
            scope["query_string"],
            headers,
            _NOBODY,
            screening.request_id(headers),
            receive,
            client[0] if client else "",
            exchange=scope.get(EXCHANGE_KEY),
        )
        sender = Sender(send, request, self._draining)
        try:
            await self._answer(scope, request, sender)
        except Failure as failure:
            await self._fail(request, sender, failure)
        except (body.Gone, asyncio.CancelledError):
            sender.status = sender.status or Code.CANCELLED.http
            raise
        except Exception:
            log.exception("unhandled error", extra={"request_id": request.request_id})
            await self._fail(request, sender, Internal("internal error"))
        finally:
            self._note(request, sender, time.perf_counter() - begun)

    async def _answer(self, scope: Any, request: Request, sender: Sender) -> None:
        target = len(scope["raw_path"]) + len(request.query)
        try:
            self._screen.check(target, scope["headers"], request.headers)
        except Packed:
            await body.drain(request.receive, request.headers)
            raise
        if b"origin" in request.headers and self._screen.crosses(request.headers[b"origin"]):
            request.cors = origins.cors_headers(request.headers[b"origin"])
            if origins.is_preflight(request.method, request.headers):
                await sender.whole(origins.preflight_answer(request.headers))
                return
        if public := self._public.get(request.path):
            await sender.whole(await public(request))
            return
        try:
            await self._let_in(scope, request)
        except Unauthenticated:
            self._admission.count_failure(request.address)
            raise
        if request.path.startswith("/v2") and request.path[3:4] in ("", "/"):
            # Its connection cancels it when the client disconnects; watching for that here would cost a task.
            scope[WORK_KEY] = asyncio.current_task()
            try:
                response = await self._predictions(request)
            finally:
                del scope[WORK_KEY]
            await sender.whole(response)
        else:
            scope[SCOPE_KEY] = request
            await self._web(scope, request.receive, sender)

    async def _let_in(self, scope: Any, request: Request) -> None:
        headers = request.headers
        is_signed, asks = _SIGNED[0] in headers or _SIGNED[1] in headers, _ASKS in headers
        head = Head.of_http(scope, headers) if is_signed or asks else None
        signed = self._admission.signed(head) if head and is_signed else None
        try:
            self.identify(request, signed)
        except UnknownKey as failure:
            await self._admission.learn(failure)
            self.identify(request, signed)
        await self._charge(request)
        if head is None:
            return
        request.content = await request.body(_LONGEST)
        if signed:
            keyed = b"idempotency-key" in headers and self._calls.keyed(request.method, request.path)
            await self._admission.settle(signed, request.content, keyed)
        if asks and request.method != "HEAD":
            request.receipt = await self._receipts.asked(head, request.content)

    async def _charge(self, request: Request) -> None:
        charge = request.charge = self._admission.charge(request.principal, request.path)
        standing = charge.begin() or await charge.wait()
        if not standing.admitted:
            enough(standing, standing.degraded and self._calls.costly(request.method, request.path))

    def identify(self, request: Request, signed: Signed | None = None) -> None:
        """Sets the request's principal. Raises unauthenticated, signature_invalid, forbidden, invalid_name."""
        page = _is_page(request)
        authorization = request.header(b"authorization")
        project = request.header(b"x-project")
        origin = Origin(request.address, request.certificate)
        request.principal = self._admission.identify(authorization, project, page, signed, origin)
        if clean := self._cleaner.recorded(request.principal.scope.tenant):
            request.clean = clean
            request.request_id = self._cleaner.named(request.principal.scope.tenant, request.request_id)

    def knows(self, request: Request) -> bool:
        """Whether the request carries a valid key."""
        try:
            self.identify(request)
        except Failure:
            return False
        return True

    async def _fail(self, request: Request, sender: Sender, failure: Failure) -> None:
        if sender.status:
            raise failure  # a part of the answer is sent: the connection has to break, or it would look complete
        response = failed(request.cleaned(failure), request.logged_path, request.request_id)
        log_refused(failure, request.request_id)
        if failure.code in _WHO:
            response.headers += [_BEARER, _BASIC] if _is_page(request) else [_BEARER]
        if failure.code in _CLOSING:
            response.headers.append((b"connection", b"close"))
        await sender.whole(response)

    def _note(self, request: Request, sender: Sender, seconds: float) -> None:
        known = None if request.principal is _NOBODY else request.principal
        if known is None and request.path in self._public and sender.status < 400:
            return  # probes would fill the log
        clean = request.clean or str
        self._access_log.add(
            Entry(
                request.request_id,
                known,
                request.method,
                request.logged_path,
                sender.status,
                seconds,
                sender.size,
                request.address,
                clean(request.model),
                clean(request.version),
                request.recorded,
                request.degraded,
            )
        )


def _is_page(request: Request) -> bool:
    return request.method in ("GET", "HEAD") and (request.path in _PAGES or request.path.startswith("/docs/"))
