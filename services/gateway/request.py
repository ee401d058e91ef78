"""A request that was let in, and an answer to it."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.gateway import body
from services.gateway.api import problem
from services.gateway.charging import Charge
from services.gateway.exchange import Exchange
from services.gateway.limits import Standing
from services.gateway.privacy.cleaner import worded
from services.gateway.receipts import Receipt
from services.kit.auth import Principal
from services.kit.errors import Failure, InvalidValue


@dataclass(slots=True)
class Response:
    """A whole answer."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class Request:
    """An HTTP request. Its handler sets the model and the version that answered."""

    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    principal: Principal
    request_id: str
    receive: body.Receive
    address: str = ""
    model: str = ""
    version: str = ""
    # What it has taken from buckets.
    charge: Charge | None = None
    # It has another record in the telemetry.
    recorded: bool = False
    # What answered in place of the version that was asked.
    degraded: str = ""
    exchange: Exchange | None = None
    # The body, where it was read before the handler: to check a signature or for a receipt.
    content: bytes | None = None
    # Takes personal data out of what is logged of it, where its tenant has a filter.
    clean: Callable[[str], str] | None = None
    # CORS headers of the answer.
    cors: Sequence[tuple[bytes, bytes]] = ()
    # What makes the answer's receipt, if it asks for one.
    receipt: Receipt | None = None

    @property
    def standing(self) -> Standing | None:
        """The standing of the bucket that limits it most."""
        return self.charge.standing if self.charge else None

    @property
    def logged_path(self) -> str:
        """The path as it is logged."""
        return self.clean(self.path) if self.clean else self.path

    def cleaned(self, failure: Failure) -> Failure:
        """A failure as its caller sees it."""
        return worded(failure, self.clean) if self.clean else failure

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises body_too_large, request_timeout, bad_framing."""
        content = await self._body(limit)
        if self.charge:
            self.charge.size = len(content)
        return content

    async def _body(self, limit: int) -> bytes:
        if self.content is not None:
            if len(self.content) > limit:
                raise body.too_large(limit)
            return self.content
        if self.exchange and 0 < body.declared(self.headers) <= limit and (whole := self.exchange.body()) is not None:
            return whole
        return await body.read(self.receive, self.headers, limit)

    def certificate(self) -> bytes:
        """The client certificate of its connection, as DER; empty for none."""
        return self.exchange.certificate() if self.exchange else b""

    def find_header(self, name: str) -> str | None:
        """A header's text by its name in small letters; None when it is not there."""
        return find_header(self.headers, name)

    def header(self, name: bytes) -> str:
        """A header's text, empty when it is not there."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def timeout(self) -> float | None:
        """Seconds that the caller waits; None when it does not say. Raises invalid_value."""
        text = self.headers.get(b"x-request-timeout")
        if not text:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < math.inf:
            raise InvalidValue("X-Request-Timeout must be a number of seconds above 0")
        return seconds


Handler = Callable[[Request], Awaitable[Response]]


def find_header(headers: Mapping[bytes, bytes], name: str) -> str | None:
    """A header's text by its name in small letters; None when it is not there."""
    value = headers.get(name.encode())
    return None if value is None else value.decode("latin-1")


def failed(failure: Failure, path: str, request_id: str) -> Response:
    """A failure as an answer."""
    return Response(failure.code.http, problem.dump(failure, path, request_id), problem.headers(failure))
