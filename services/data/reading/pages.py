"""What a page of a site says: its text, its title and where its links lead. Pure; of what others wrote, so bounded."""

import codecs
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

TEXT, _TITLE, _LINKS = 65_536, 1000, 5000  # characters; links of one page
_SECONDS, _PIECE = 3.0, 65_536  # of the processor, that one page may take; characters between two looks at the clock
_HIDDEN = frozenset(["script", "style", "template", "noscript", "svg", "math"])
_BREAKS = frozenset(
    [
        *("address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "footer", "form"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section"),
        *("table", "td", "th", "tr", "ul"),
    ]
)
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_SPACES, _LINES = re.compile(r"[ \t\r\f\v\u00a0]+"), re.compile(r" ?\n[ \n]*")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# What a page may say that it is written in. Python knows more under such names, and not all of it is text.
_ENCODINGS = frozenset(
    [
        *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255"),
        *("cp1256", "cp1257", "cp1258", "cp866", "cp874", "koi8-r", "koi8-u", "mac-roman", "shift_jis", "cp932"),
        *("euc_jp", "iso2022_jp", "gb2312", "gbk", "gb18030", "big5", "euc_kr", "cp949", "tis-620"),
        *(f"iso8859-{number}" for number in range(1, 17)),
    ]
)
_AS_WINDOWS = ("ascii", "iso8859-1")  # which browsers read so, too


@dataclass
class Page:
    """What was found. `links` are as they are written, `base` is what they are relative to."""

    title: str = ""
    text: str = ""
    base: str = ""
    links: list[str] = field(default_factory=list)
    # That of the text or the links something was left out.
    cut: bool = False
    # What it asks of robots.
    follow: bool = True
    index: bool = True


def decoded(body: bytes, content_type: str) -> str | None:
    """The text of an answer in the encoding that it has, whatever it says; None for bytes that are no text."""
    for mark, name in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    said = _named(content_type) or _named(body[:1024].decode("latin-1"))
    if b"\0" in body[:4096] and not said.startswith("utf-16"):
        return None
    for name in (said, "utf-8", "cp1252"):
        try:
            return body.decode(name) if name else _cut(body)
        except UnicodeDecodeError:
            continue
    # It lies, or is damaged in places.
    return body.decode(said or "utf-8", "replace")


def _cut(body: bytes) -> str:
    """UTF-8, the end of which may lie within a character. Raises UnicodeDecodeError."""
    return codecs.getincrementaldecoder("utf-8")().decode(body)


def _named(text: str) -> str:
    found = _CHARSET.search(text)
    try:
        name = codecs.lookup(found[1]).name if found else ""
    except (LookupError, ValueError):
        return ""
    if name in _AS_WINDOWS:
        return "cp1252"
    return name if name in _ENCODINGS else ""


def tidy(text: str, most: int = TEXT) -> str:
    """Text without controls, and with one space or one line feed between words."""
    spaced = _SPACES.sub(" ", _CONTROLS.sub(" ", text))
    return _LINES.sub("\n", spaced).strip()[:most]


def page(text: str, seconds: float = _SECONDS) -> Page:
    """What a page of HTML says. One that would take too long is read as far as time allows."""
    parser = _Parser()
    if not _is_read(parser, text, seconds):
        parser.found.cut = True
    return parser.result()


def _is_read(parser: HTMLParser, text: str, seconds: float) -> bool:
    """Whether a parser comes to the end of a text in so many seconds of the processor.

    It does not where Python's gives up: in sections that it does not know, and numbers of thousands of digits.
    """
    until = time.thread_time() + seconds
    for piece in _pieces(text):
        try:
            parser.feed(piece)
        except (AssertionError, ValueError):
            return False
        if time.thread_time() > until:
            return False
    return True


def _pieces(text: str) -> Iterator[str]:
    for begin in range(0, len(text), _PIECE):
        yield text[begin : begin + _PIECE]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found = Page()
        self._texts, self._titles = list[str](), list[str]()
        self._size, self._hidden, self._named, self._in_title = 0, 0, 0, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in reversed(attrs)}
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag == "title" and not self._hidden:
            self._in_title, self._named = True, self._named + 1
        elif tag in ("a", "area") and "href" in said:
            self._link(said)
        elif tag == "base" and not self.found.base:
            self.found.base = said.get("href", "")
        elif tag == "meta" and said.get("name", "").lower() in ("robots", "aimass-crawler"):
            self._asked(said.get("content", ""))
        if tag in _BREAKS:
            self._take("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(self._hidden - 1, 0)
        elif tag == "title":
            self._in_title = False
        elif tag in _BREAKS:
            self._take("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self._titles += [data[:_TITLE]] if self._named == 1 else []
        elif not self._hidden:
            self._take(data)

    def _take(self, data: str) -> None:
        # Spaces are taken out later, so more is kept than is shown.
        if self._size > 4 * TEXT:
            self.found.cut = True
            return
        self._texts.append(data)
        self._size += len(data)

    def _link(self, said: dict[str, str]) -> None:
        if "nofollow" in said.get("rel", "").lower().split():
            return
        if len(self.found.links) == _LINKS:
            self.found.cut = True
            return
        self.found.links.append(said["href"])

    def _asked(self, content: str) -> None:
        follow, index = asked(content)
        self.found.follow, self.found.index = self.found.follow and follow, self.found.index and index

    def result(self) -> Page:
        found = self.found
        text = tidy("".join(self._texts), TEXT + 1)
        found.text, found.title = text[:TEXT], " ".join(tidy("".join(self._titles), _TITLE).split())
        found.cut = found.cut or len(text) > TEXT
        return found


def asked(content: str) -> tuple[bool, bool]:
    """What a robots meta tag, or a header, asks for: that links may be followed, that the page may be kept."""
    words = {word.strip() for word in content.lower().split(",")}
    return not words & {"nofollow", "none"}, not words & {"noindex", "none"}


class _Locations(HTMLParser):
    """The addresses in a sitemap: those of other sitemaps, and those of pages."""

    def __init__(self) -> None:
        super().__init__()
        self.sitemaps, self.pages, self._in, self._at = list[str](), list[str](), "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._at = tag == "loc"
        self._in = tag if tag in ("url", "sitemap") else self._in

    def handle_endtag(self, tag: str) -> None:
        self._at = False

    def handle_data(self, data: str) -> None:
        if self._at and data.strip():
            (self.sitemaps if self._in == "sitemap" else self.pages).append(data.strip())


def locations(text: str, seconds: float = _SECONDS) -> tuple[list[str], list[str]]:
    """The sitemaps and the pages that a sitemap names."""
    parser = _Locations()
    _is_read(parser, text, seconds)
    return parser.sitemaps, parser.pages
