"""What no answer may be."""

from collections.abc import Set

import orjson

from services.kit.errors import Code
from tests.fuzz import wire

_CODES = {code.text for code in Code} - {"internal"}


def judged(answer: wire.Answer, sent: bytes, proven: bool, public: Set[bytes]) -> str:
    """What is wrong with an answer to what was sent; empty if nothing. `public` are the bodies for everybody."""
    if answer.status < 400:
        if proven or answer.body in public:
            return ""
        return f"who proved nothing was answered with {answer.status} {answer.body[:200]!r}"
    if answer.headers.get(b"content-type") != b"application/problem+json":
        return f"{answer.status} is no problem document: {answer.body[:200]!r}"
    failed = answer.status >= 500 or (answer.body and not _known(answer.body))
    return f"answered with {answer.status} {answer.body[:300]!r}" if failed and not _asked_for(sent, answer) else ""


def _asked_for(sent: bytes, answer: wire.Answer) -> bool:
    """Whether the caller has brought it upon himself: by a time that nothing can keep, or by a signature so early that
    it may have been seen before the start (docs/guides/signatures.md)."""
    if answer.status == 504:
        named = not answer.body or b'"deadline_exceeded"' in answer.body  # HEAD has none
        return named and b"x-request-timeout" in sent.lower()
    if answer.status != 503:
        return False
    if b"HEAD " in sent and not answer.body:
        return b"signature-input" in sent.lower() and b"retry-after" in answer.headers
    return b"signed requests are taken again" in answer.body


def _known(body: bytes) -> bool:
    try:
        return orjson.loads(body)["code"] in _CODES
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False
