"""Requests to S3: how they are signed (AWS Signature Version 4), and what the answers say. Pure."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from services.kit.errors import FailedPrecondition

_ALGORITHM, _NOTHING = "AWS4-HMAC-SHA256", hashlib.sha256(b"").hexdigest()
_WORD = re.compile(rb"<Code>([A-Za-z0-9.]{1,60})</Code>")


class Key(NamedTuple):
    """An access key and where it is used."""

    access: str
    secret: str
    region: str


class Object(NamedTuple):
    """An object as a list has it; `mark` changes with its bytes."""

    name: str
    size: int
    mark: str


@dataclass(frozen=True)
class Listed:
    """One page of a list, whether it is the last, and what asks for the next."""

    objects: Sequence[Object]
    last: bool
    more: str


def target(path: str, query: Mapping[str, str]) -> str:
    """Path and query as they are sent and signed."""
    asked = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
    return quote(path, safe="/-_.~") + (f"?{asked}" if asked else "")


def signed(key: Key, host: str, sent: str, headers: Mapping[str, str], now: datetime) -> dict[str, str]:
    """The headers of a GET of a target, with those that sign it; unsigned without an access key."""
    if not key.access:
        return dict(headers)
    moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    every = {**headers, "host": host, "x-amz-content-sha256": _NOTHING, "x-amz-date": moment}
    names, (path, _, query) = ";".join(sorted(every)), sent.partition("?")
    lines = "".join(f"{name}:{value}\n" for name, value in sorted(every.items()))
    asked = f"GET\n{path}\n{query}\n{lines}\n{names}\n{_NOTHING}"
    scope = f"{day}/{key.region}/s3/aws4_request"
    text = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    secret = f"AWS4{key.secret}".encode()
    for word in scope.split("/"):
        secret = hmac.digest(secret, word.encode(), "sha256")
    signature = hmac.digest(secret, text.encode(), "sha256").hex()
    credential = f"Credential={key.access}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**every, "authorization": f"{_ALGORITHM} {credential}"}


def listed(body: bytes) -> Listed:
    """What an answer to ListObjectsV2 says. Raises failed_precondition for what is none."""
    text = body.decode(errors="replace")
    try:
        # No list has a document type, and what has one may define entities that grow without bounds.
        found = ElementTree.fromstring(text) if "<!" not in text else None
        if found is None or not found.tag.endswith("ListBucketResult"):
            raise ElementTree.ParseError
        coded = _text(found, "EncodingType") == "url"
        objects = [_object(one, coded) for one in found.iterfind("{*}Contents")]
    except (ElementTree.ParseError, ValueError):
        raise FailedPrecondition("the server answers with no list of objects: it may not be one of S3") from None
    return Listed(objects, _text(found, "IsTruncated") != "true", _text(found, "NextContinuationToken"))


def _object(found: ElementTree.Element, coded: bool) -> Object:
    name, size, etag = _text(found, "Key"), int(_text(found, "Size")), _text(found, "ETag")
    if size < 0:
        raise ValueError
    return Object(unquote(name) if coded else name, size, etag or _text(found, "LastModified"))


def _text(found: ElementTree.Element, name: str) -> str:
    return found.findtext(f"{{*}}{name}") or ""


def word_of(body: bytes) -> str:
    """The word that an answer gives for why it refuses; empty where it has none."""
    found = _WORD.search(body[:8192])
    return found[1].decode() if found else ""
