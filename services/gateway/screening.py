"""Checks of a request before it is read: framing, sizes, host, and the origin that a browser states."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from services.gateway.api.problem import Packed
from services.kit.errors import Code, Failure
from services.kit.timestamps import uuid7

HEADERS = 100
HEADER_BYTES = 32 * 2**10
TARGET = 16 * 2**10  # bytes of path and query
_ONCE = (
    *(b"host", b"authorization", b"content-length", b"content-type", b"x-project", b"idempotency-key", b"if-match"),
    *(b"content-digest", b"inference-header-content-length", b"signature", b"signature-input", b"x-receipt"),
    b"transfer-encoding",
)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\]|::1)\Z", re.IGNORECASE)
_PORT = re.compile(r":\d+\Z")
# A slash, colon or percent sign that was written so belongs to a name; bare ones belong to the path.
_OF_NAMES = re.compile(r"(%2[Ff5]|%3[Aa])")
_SITES = (b"none", b"same-origin")


def request_id(headers: Mapping[bytes, bytes]) -> str:
    """The request id that the caller gave; a new one if it gave none, or no valid one."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if _REQUEST_ID.match(given) else uuid7()


def path(raw: bytes) -> str:
    """A path decoded, except `%2F`, `%3A` and `%25`: they belong to names, which are decoded later."""
    text = raw.decode("latin-1")
    if "%" not in text:
        return text
    return "".join(part if _OF_NAMES.match(part) else unquote(part) for part in _OF_NAMES.split(text))


class Screen:
    """Refuses requests by their head."""

    def __init__(self, hosts: Iterable[str], origins: Iterable[str]) -> None:
        """`hosts` may be named beside loopback, `*` is any; `origins` may call beside our own."""
        self._hosts = {host.lower() for host in hosts}
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._known: dict[bytes, bool] = {}

    def check(self, target: int, sent: list[tuple[bytes, bytes]], headers: Mapping[bytes, bytes]) -> None:
        """Raises bad_framing, headers_too_large, misdirected, origin_denied, unsupported_media_type.

        `target` is the length of path and query, `sent` are the headers as they came, `headers` the same by name.
        """
        if len(sent) > HEADERS:
            raise Failure(Code.HEADERS_TOO_LARGE, f"there are more than {HEADERS} headers")
        if sum([len(name) + len(value) for name, value in sent]) > HEADER_BYTES:
            raise Failure(Code.HEADERS_TOO_LARGE, f"the headers are larger than {HEADER_BYTES // 2**10} KiB")
        if target > TARGET:
            raise Failure(Code.HEADERS_TOO_LARGE, f"path and query are longer than {TARGET // 2**10} KiB")
        if len(headers) != len(sent):
            _once(sent)
        if b"transfer-encoding" in headers:
            if b"content-length" in headers:
                raise Failure(Code.BAD_FRAMING, "the request has two lengths")
            if headers[b"transfer-encoding"].lower() != b"chunked":
                raise Failure(Code.BAD_FRAMING, "the only transfer encoding that is read is chunked")
        if not self.knows(headers.get(b"host", b"")):
            raise Failure(Code.MISDIRECTED, "this is not the host that the request names")
        if b"origin" in headers or b"sec-fetch-site" in headers:
            self._browser(headers)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Packed

    def knows(self, host: bytes) -> bool:
        """Whether a `Host` names this gateway."""
        known = self._known.get(host)
        if known is None:
            name = _PORT.sub("", host.decode("latin-1")).lower()
            known = bool(_LOOPBACK.match(name)) or bool(name and self._hosts & {name, "*"})
            if len(self._known) < 1000:
                self._known[host] = known
        return known

    def crosses(self, origin: bytes) -> bool:
        """Whether an origin is one of those that may call beside our own."""
        return origin.decode("latin-1").lower() in self._origins

    def _browser(self, headers: Mapping[bytes, bytes]) -> None:
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if origin and origin in self._origins:
            return
        own = origin in (f"http://{host}", f"https://{host}")
        if (origin and not own) or headers.get(b"sec-fetch-site", b"none") not in _SITES:
            raise Failure(Code.ORIGIN_DENIED, "a page of another origin may not call")


def _once(sent: list[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in sent]
    for name in _ONCE:
        if names.count(name) > 1:
            raise Failure(Code.BAD_FRAMING, f"the header {name.decode()} is there twice")
