"""Strict reading of untrusted documents: what two parsers could read differently is refused."""

import base64
import json
import re
from typing import Any

KID = re.compile(r"[!-~]{1,256}\Z")


def document(content: bytes) -> dict[str, Any]:
    """A JSON object. Raises ValueError, also for a name that is there twice, NaN, and what is nested deeply."""
    try:
        found = json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_number)
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("the document is no object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def unpadded(text: str) -> bytes:
    """What base64url says. Raises ValueError for a second spelling of the same bytes."""
    content = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    if base64.urlsafe_b64encode(content).rstrip(b"=").decode() != text:
        raise ValueError("base64url is spelled in another way")
    return content
