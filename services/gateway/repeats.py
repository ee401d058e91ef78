"""Predictions whose head has come before, byte for byte, on whatever connection: only their body is read.

A client writes the same head for each of its requests: framing, sizes, key, model. Parsing it again, with ASGI messages
and a task for each request, costs more than the rest of a prediction. What changes with time is checked each time:
whether the key still works, its limits, which version answers.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from services.gateway import body
from services.gateway.access.domain import ApiKey
from services.gateway.access_log import AccessLog, Entry
from services.gateway.admission import Admission
from services.gateway.api.oip_body import Asked
from services.gateway.api.oip_forms import Forms
from services.gateway.api.oip_rest import LARGE, answered
from services.gateway.charging import Charge
from services.gateway.deferred import Deferred
from services.gateway.overload.priority import Priority
from services.gateway.request import Request, Response, failed, find_header
from services.gateway.traffic.domain.routing import Pinned
from services.gateway.traffic.engines import Unloaded
from services.gateway.traffic.service import Prediction, Query, Submitted, Traffic
from services.kit.auth import Principal
from services.kit.errors import Code, Failure, Internal
from services.kit.tensors import Tensor
from services.kit.timestamps import uuid7

if TYPE_CHECKING:
    from services.gateway.http_protocol import HttpProtocol

log = logging.getLogger(__name__)
_END = b"\r\n\r\n"
_MOST = 4096  # heads that are remembered
_NOSNIFF = (b"x-content-type-options", b"nosniff")
# Headers that make a head unique, or ask for more than an answer.
_SINGULAR = (
    *(b"x-request-id", b"traceparent", b"expect", b"transfer-encoding", b"upgrade", b"origin"),
    *(b"signature-input", b"signature", b"x-receipt"),
)


class Known(NamedTuple):
    """A known head, parsed."""

    path: str
    model: str
    version: str  # empty: the release decides
    length: int  # bytes of the body
    forms: Forms  # of the bodies
    seconds: float  # of the caller's timeout
    key: ApiKey
    principal: Principal
    priority: Priority
    tokens: int  # that the caller states
    headers: Mapping[bytes, bytes]

    def header(self, name: str) -> str | None:
        """A header's text by its name in small letters; None when it is not there."""
        return find_header(self.headers, name)


class Repeats:
    """The heads that are known."""

    def __init__(
        self, admission: Admission, traffic: Traffic, access_log: AccessLog, draining: Callable[[], bool]
    ) -> None:
        self._admission, self._access_log = admission, access_log
        self.traffic, self.draining = traffic, draining
        self._known: dict[bytes, Known] = {}
        # What answers begin with, for as long as the door's own headers stay as they are: a second.
        self._heads: dict[Any, bytes] = {}
        self._own: Any = None
        self.deferred = Deferred()

    def learn(self, request: Request, model: str, version: str, seconds: float, priority: Priority) -> None:
        """Remembers the head of a request that was answered well, if others may have the same."""
        exchange, headers = request.exchange, request.headers
        if not exchange or not exchange.head or not exchange.stays or any(name in headers for name in _SINGULAR):
            return
        length, key = body.declared(headers), self._admission.lasting(request.principal)
        if key is None or request.query or not 0 < length <= LARGE:
            return
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        binary = headers.get(b"inference-header-content-length")
        forms = Forms(None if binary is None else int(binary))
        who, tokens = request.principal, request.charge.tokens if request.charge else 0
        self._known[exchange.head] = Known(
            request.path, model, version, length, forms, seconds, key, who, priority, tokens, headers
        )

    def take(self, connection: "HttpProtocol", data: bytes) -> "Repeat | None":
        """Begins to answer if this is one whole request with a known head; else nothing has happened."""
        end = data.find(_END)
        known = self._known.get(data[:end]) if end > 0 else None
        if known is None or len(data) != end + len(_END) + known.length or self.draining():
            return None
        if not self._admission.holds(known.key):
            del self._known[data[:end]]
            return None
        if self.traffic.cleaner.watches(known.principal.scope.tenant):
            return None  # the full path filters texts, beside the loop where they are long
        charge = self._admission.charge(known.principal)
        standing = charge.begin()
        if standing is None or not standing.admitted:
            return None  # nothing is taken; the full path gives the reason
        charge.size, charge.tokens = known.length, known.tokens
        repeat = Repeat(self, connection, known, charge)
        repeat.begin(data[end + len(_END) :])
        return repeat

    def awaits(self, data: bytes) -> bool:
        """Whether this is a known head alone, as from clients that write the body in a packet of its own."""
        return data.endswith(_END) and data[: -len(_END)] in self._known

    def head(self, own: list[tuple[bytes, bytes]], response: Response) -> bytes:
        """What an answer begins with; `own` are the headers that the door gives all answers."""
        if own is not self._own:
            self._own, self._heads = own, {}
        about = (response.status, *response.headers)
        if (found := self._heads.get(about)) is None:
            lines = [b"%b: %b\r\n" % pair for pair in (*own, *response.headers, _NOSNIFF)]
            found = self._heads[about] = b"".join((STATUS_LINE[response.status], *lines))
        return found

    def note(self, repeat: "Repeat", status: int, size: int, seconds: float, version: str, degraded: str) -> None:
        """Writes the access log."""
        known, address = repeat.known, repeat.connection.client
        self._access_log.add(
            Entry(
                repeat.request_id,
                known.principal,
                "POST",
                known.path,
                status,
                seconds,
                size,
                address[0] if address else "",
                known.model,
                version,
                recorded=status == 200,
                degraded=degraded,
            )
        )


class Repeat:
    """One request under way."""

    __slots__ = (
        "_answer",
        "_asked",
        "_charge",
        "_degraded",
        "_question",
        "_repeats",
        "_started",
        "_submitted",
        "_version",
        "connection",
        "known",
        "request_id",
    )

    def __init__(self, repeats: Repeats, connection: "HttpProtocol", known: Known, charge: Charge) -> None:
        self._repeats, self.connection, self.known, self._charge = repeats, connection, known, charge
        self.request_id, self._started = uuid7(), time.perf_counter()
        self._version = known.version
        self._asked: Asked | None = None
        self._submitted: Submitted | None = None
        self._question: tuple[Pinned, Query] | None = None
        self._degraded = ""
        self._answer: asyncio.Future[Any] | None = None

    def begin(self, content: bytes) -> None:
        """Asks for the prediction; the answer goes out when it is there."""
        known, traffic = self.known, self._repeats.traffic
        try:
            principal, scope = known.principal, known.principal.scope
            pinned = traffic.pin(scope, known.model, known.version, principal.id, known.header)
            self._version = str(pinned.version.number)
            deadline = time.monotonic() + known.seconds
            traffic.screen(scope, pinned, deadline, known.priority)
            asked, fit = known.forms.decode(content)
            self._asked = asked
            peer = self.connection.client
            own = self.request_id, deadline, asked.inputs, asked.outputs, principal, peer[0] if peer else ""
            query = Query(*own, fit=fit, priority=known.priority, charge=self._charge)
            self._question = pinned, query
            self._submitted = traffic.submit(pinned, query, self)
            if self._submitted is None:  # it has to wait for what its caller may use
                self._when(asyncio.ensure_future(traffic.predict(pinned, query)), self._encode)
        except Exception as error:
            # On the next turn, as every answer: the connection does not know of this request yet.
            refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            self._when(refused, self._send)

    def gone(self) -> None:
        """The caller hung up."""
        if self._answer:
            self._answer.cancel()
        elif self._submitted and self._repeats.traffic.cancel(self._submitted):
            self._note(Code.CANCELLED.http, 0)

    def _when(self, answer: "asyncio.Future[Any]", then: Callable[[Any], None]) -> None:
        self._answer = answer
        answer.add_done_callback(partial(self._done, then))

    def _done(self, then: Callable[[Any], None], answer: "asyncio.Future[Any]") -> None:
        if answer.cancelled():
            self._note(Code.CANCELLED.http, 0)
            return
        error = answer.exception()
        try:
            if error:
                self._replace(error)
            else:
                then(answer.result())
        except Exception as unforeseen:
            self._fail(unforeseen)

    def _replace(self, error: BaseException) -> None:
        """Asks the substitutes of the version, once, if it has any; else fails."""
        asked, self._question = self._question, None
        if asked and isinstance(error, Failure) and asked[0].version.replaceable:
            instead = self._repeats.traffic.instead(*asked, error)
            self._when(asyncio.ensure_future(instead), self._encode)
        else:
            self._fail(error)

    def answered(self, outputs: list[Tensor]) -> None:
        """The submitted request is answered."""
        assert self._submitted
        submitted, repeats = self._submitted, self._repeats
        took = time.perf_counter() - submitted.started
        repeats.deferred.add(repeats.traffic.record_answer, submitted, outputs, took)
        try:
            self._encode(Prediction(submitted.pinned, outputs))
        except Exception as unforeseen:
            self._fail(unforeseen)

    def failed(self, error: BaseException) -> None:
        """The submitted request has failed."""
        if isinstance(error, asyncio.CancelledError):
            self._note(Code.CANCELLED.http, 0)
        elif isinstance(error, Unloaded) and self._submitted:
            self._question = None
            again = self._repeats.traffic.again(self._submitted)
            self._when(asyncio.ensure_future(again), self._encode)
        else:
            self._replace(error)

    def _encode(self, prediction: Prediction) -> None:
        assert self._asked
        self._version, self._degraded = str(prediction.pinned.version.number), prediction.degraded
        if sum([len(tensor.raw) for tensor in prediction.outputs]) > LARGE:
            self._when(asyncio.ensure_future(asyncio.to_thread(answered, self._asked, prediction)), self._send)
        else:
            self._send(answered(self._asked, prediction))

    def _fail(self, error: BaseException) -> None:
        failure = error if isinstance(error, Failure) else Internal("internal error")
        if failure is not error:
            log.error("unhandled error", exc_info=error, extra={"request_id": self.request_id})
        self._send(failed(failure, self.known.path, self.request_id))

    def _send(self, response: Response) -> None:
        content, connection = response.body, self.connection
        last, standing = self._repeats.draining() or connection.leaving, self._charge.standing
        assert standing
        parts = [
            self._repeats.head(connection.server_state.default_headers, response),
            b"content-length: %d\r\nx-request-id: %b\r\n" % (len(content), self.request_id.encode()),
            standing.lines(),
            b"connection: close\r\n\r\n" if last else b"\r\n",
            content,
        ]
        self._note(response.status, len(content))
        connection.answer(self, b"".join(parts), last)

    def _note(self, status: int, size: int) -> None:
        took = time.perf_counter() - self._started
        repeats = self._repeats
        repeats.deferred.add(repeats.note, self, status, size, took, self._version, self._degraded)
