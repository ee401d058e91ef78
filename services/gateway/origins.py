"""Pages of other origins that the installation lets call: what their browsers are told (CORS).

Keys travel in a header that pages set themselves, so no credentials of the browser's are ever asked for.
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
_SECONDS = b"600"  # for which a browser remembers what it was told
Headers = list[tuple[bytes, bytes]]


def cors_headers(origin: bytes) -> Headers:
    """Lets a page of an allowed origin see an answer."""
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _SHOWN),
        (b"vary", b"origin"),
    ]


def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser asks what a page may do before it does it."""
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


def preflight_answer(headers: Mapping[bytes, bytes]) -> Response:
    """The answer to such a question of an allowed origin: asked without a key, it says nothing of any object."""
    found: Headers = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _SECONDS)]
    names = headers.get(b"access-control-request-headers", b"")
    if _NAMES.match(names):
        found.append((b"access-control-allow-headers", names))
    return Response(200, b"", found)
