"""Content negotiation: media types, gzip, and etags that the caller knows."""

import asyncio
import gzip
import hashlib
from collections.abc import Sequence

from services.kit.errors import Code, Failure

_SMALL = 4096  # bytes below which packing is not worth it
_LARGE = 65_536  # bytes above which it leaves the event loop
_LEVEL = 5


def known(if_none_match: str, etag: str) -> bool:
    """Whether `If-None-Match` names the etag, weak or strong, or is `*`."""
    if not if_none_match:
        return False
    named = [one.strip().removeprefix("W/").strip('"') for one in if_none_match.split(",")[:50]]
    return etag in named or named == ["*"]


class Lasting:
    """A document that does not change: its etag, and its plain and packed forms, made once."""

    def __init__(self, content: bytes) -> None:
        """Packs the content; takes as long as that does."""
        self.plain, self.packed = content, gzip.compress(content, _LEVEL, mtime=0)
        self.etag = hashlib.sha256(content).hexdigest()[:32]

    def form(self, accept_encoding: str, headers: dict[str, str]) -> bytes:
        """The form that a caller accepts; sets the headers that name it."""
        headers["vary"] = "accept-encoding"
        if not _takes_gzip(accept_encoding):
            return self.plain
        headers["content-encoding"] = "gzip"
        return self.packed


async def packed(content: bytes, accept_encoding: str, headers: dict[str, str]) -> bytes:
    """The content as gzip where its caller accepts that and it is worth it; sets the headers that say so."""
    if len(content) < _SMALL:
        return content
    headers["vary"] = "accept-encoding"
    if not _takes_gzip(accept_encoding):
        return content
    headers["content-encoding"] = "gzip"
    if len(content) < _LARGE:
        return gzip.compress(content, _LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, content, _LEVEL, mtime=0)


def _takes_gzip(accept_encoding: str) -> bool:
    taken = dict(map(_range, accept_encoding.split(",")[:50]))
    return taken.get("gzip", taken.get("*", 0.0)) > 0  # not what is no number


def chosen(accept: str, offers: Sequence[str]) -> str:
    """The first offer that an `Accept` header takes, in the caller's order of preference. Raises not_acceptable."""
    if not accept.strip():
        return offers[0]
    wanted = sorted((_range(part) for part in accept.split(",")[:50]), key=lambda pair: -pair[1])
    for kind, quality in wanted:
        for offer in offers:
            if quality > 0 and kind in (offer, "*/*", f"{offer.partition('/')[0]}/*"):
                return offer
    raise Failure(Code.NOT_ACCEPTABLE, f"there is {' or '.join(offers)} only")


def _range(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return kind, float(parameter[2:])
            except ValueError:
                return kind, 0.0
    return kind, 1.0


def require_json(content_type: str) -> None:
    """Raises unsupported_media_type for a body of another type."""
    kind, _, rest = content_type.partition(";")
    charset = rest.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise Failure(Code.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json in UTF-8")
