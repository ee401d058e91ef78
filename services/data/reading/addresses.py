"""Addresses of pages: which are of one site, and one form for all that name the same page. Pure."""

import re
from collections import Counter
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from services.kit.errors import InvalidValue

LONGEST = 1024  # characters of an address
_STEPS, _SAME = 32, 3  # of a path; times that it may have one step
_PORTS = {"http": 80, "https": 443}
_IGNORED = re.compile(r"[\t\r\n]")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_STRAY = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PATH, _QUERY = "%/:@!$&'()*+,;=~", "%/?:@!$&'()*+,;=~"
_IN_PATH = re.compile(r";jsessionid=[^/;]*", re.IGNORECASE)
_IN_QUERY = re.compile(r"(?:jsessionid|phpsessid|aspsessionid[a-z]*|session_?id|cfid|cftoken)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Site:
    """A scheme, a host and a port, and the path that its pages are below."""

    origin: str
    host: str
    port: int
    prefix: str = ""

    def joined(self, base: str, link: str, anywhere: bool = False) -> str | None:
        """The page that a link of another names, in its one form; None where it is not one of this site.

        `anywhere`: also outside of the prefix.
        """
        found = normal(base, link)
        if found is None or not found.startswith(f"{self.origin}/"):
            return None
        return found if anywhere or self.target(found).startswith(self.prefix) else None

    def target(self, url: str) -> str:
        """The path and the query that are asked for."""
        return url.removeprefix(self.origin)


def site_of(url: str, prefix: str) -> Site:
    """The site of an address. Raises invalid_value."""
    found = normal(url, url) if len(url) <= LONGEST else None
    if found is None or not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
        raise InvalidValue("start_urls must be addresses such as https://host/path, without a password")
    parts = urlsplit(found)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    return Site(f"{parts.scheme}://{parts.netloc}", host, port, escaped(prefix, _PATH))


def normal(base: str, link: str) -> str | None:
    """The address of a link on a page, without fragment and session; None for what is no address of a page."""
    link = _IGNORED.sub("", link.strip(" \t\r\n\f"))
    if len(link) > 4 * LONGEST:
        return None
    try:
        parts = urlsplit(urljoin(base, link))
        host = _host(parts)
    except (ValueError, UnicodeError):
        return None
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc:
        return None
    path = _IN_PATH.sub("", escaped(_without_dots(parts.path), _PATH)) or "/"
    query = "&".join(one for one in parts.query.split("&") if not _IN_QUERY.match(one.partition("=")[0]))
    found = f"{parts.scheme}://{host}{path}" + (f"?{escaped(query, _QUERY)}" if query else "")
    return found if len(found) <= LONGEST else None


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").removesuffix(".")
    host = host if host.isascii() else host.encode("idna").decode("ascii")
    host = f"[{host}]" if ":" in host else host
    return host if parts.port in (None, _PORTS.get(parts.scheme)) else f"{host}:{parts.port}"


def _without_dots(path: str) -> str:
    kept = list[str]()
    steps = path.split("/")
    for step in steps[1:]:
        if step == "..":
            del kept[-1:]
        elif step != ".":
            kept.append(step)
    end = "/" if steps[-1] in (".", "..") and (not kept or kept[-1]) else ""
    return "/" + "/".join(kept) + (end if kept else "")


def escaped(text: str, safe: str = _QUERY) -> str:
    """Percent-encoded in one way: what needs it, in upper case, and nothing else."""

    def plain(found: re.Match[str]) -> str:
        byte = int(found[1], 16)
        return chr(byte) if byte in _PLAIN else f"%{found[1].upper()}"

    return _ESCAPE.sub(plain, quote(_STRAY.sub("%25", text), safe=safe, errors="replace"))


def is_trap(url: str) -> bool:
    """Whether a path says the same over and over, as those do that no end has been thought of for."""
    steps = [step for step in urlsplit(url).path.split("/") if step]
    return len(steps) > _STEPS or max(Counter(steps).values(), default=0) > _SAME
