"""CORS: lets pages of the origins that the installation allows call and read answers.

Keys travel in a header that pages set themselves, so browser credentials are never allowed.
"""

import re
from collections.abc import Mapping

from services.gateway.request import Response

_NAMES = re.compile(rb"[A-Za-z0-9-]{1,64}(, *[A-Za-z0-9-]{1,64}){0,30}\Z")
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_SHOWN = (
    b"etag, location, retry-after, x-request-id, model-version, degraded, idempotency-replayed, "
    b"inference-header-content-length, ratelimit, ratelimit-policy, "
    b"ratelimit-limit, ratelimit-remaining, ratelimit-reset, "
    b"content-digest, signature-input, signature, allow, www-authenticate"
)
_SECONDS = b"600"  # for which a browser caches the answer to a preflight
Headers = list[tuple[bytes, bytes]]


def cors_headers(origin: bytes) -> Headers:
    """The headers that let a page of an allowed origin read an answer."""
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _SHOWN),
        (b"vary", b"origin"),
    ]


def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request is a CORS preflight."""
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


def preflight_answer(headers: Mapping[bytes, bytes]) -> Response:
    """The answer to the preflight of an allowed origin: it carries no key, so it reveals nothing."""
    found: Headers = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _SECONDS)]
    names = headers.get(b"access-control-request-headers", b"")
    if _NAMES.match(names):
        found.append((b"access-control-allow-headers", names))
    return Response(200, b"", found)
