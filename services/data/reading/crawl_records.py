"""What a server answers for a page, as a record. Pure."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from services.data.reading import pages
from services.data.reading.crawl_site import Answer
from services.data.reading.frontier import Waiting
from services.data.reading.pages import Page

_HTML = ("text/html", "application/xhtml+xml")
_TEXTS = ("application/json", "application/xml", "application/javascript")
Document = dict[str, Any]


def kind(answer: Answer) -> str:
    """The media type that it says, without parameters."""
    return answer.header("content-type").partition(";")[0].strip().lower()


def is_packed(answer: Answer) -> bool:
    """Whether the body is packed, although nobody asked for it."""
    return answer.headers.get("content-encoding", "").strip().lower() not in ("", "identity")


def is_read(answer: Answer) -> bool:
    """Whether the body is text that may be read: what is packed is not."""
    said = kind(answer)
    texts = not said or said.startswith("text/") or said in (*_HTML, *_TEXTS) or said.endswith(("+json", "+xml"))
    return answer.status == 200 and texts and not is_packed(answer)


def text_of(answer: Answer) -> str | None:
    """The text of what may be read; None for what is none."""
    return pages.decoded(answer.body, answer.header("content-type")) if is_read(answer) else None


def read(answer: Answer) -> Page:
    """What the page says, and its header."""
    text, said = text_of(answer), kind(answer)
    if text is None:
        found = Page()
    elif said in _HTML or (not said and "<html" in text[:1024].lower()):
        found = pages.page(text)
    else:
        found = Page(text=pages.tidy(text), cut=len(text) > pages.TEXT)
    follow, index = pages.asked(answer.header("x-robots-tag"))
    found.follow, found.index = found.follow and follow, found.index and index
    return found


def mark(answer: Answer) -> str:
    """What changes with the page: its digest, or what its headers say where it was not read."""
    if is_read(answer):
        return f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
    told = [answer.header(name) for name in ("etag", "last-modified", "content-length", "content-type")]
    return f"unread:{hashlib.sha256(repr(told).encode()).hexdigest()}"


def record(one: Waiting, answer: Answer, page: Page | None = None, links: int = 0) -> Document:
    """A page as it was met. What it has not is null."""
    found = page or Page()
    text = found.text if page and text_of(answer) is not None else None
    return {
        "url": one.url,
        "status": answer.status,
        "content_type": kind(answer) or None,
        "title": found.title or None,
        "text": text,
        "links": links,
        "bytes": len(answer.body),
        "truncated": answer.cut or found.cut,
        "digest": mark(answer) if is_read(answer) else None,
        "etag": answer.header("etag") or None,
        "last_modified": answer.header("last-modified") or None,
        "depth": one.depth,
        "fetch_time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
