"""What a crawl of a site says of itself as a source: where it begins, and how far it goes. Pure."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from services.data.reading.addresses import Site, site_of
from services.data.reading.formats import Records
from services.kit.errors import InvalidValue

# How it says who it is, and what groups of robots.txt call it.
AGENT = "aimass-crawler"
_STARTS, _DEPTH = 20, 20
_PAGES, _PAGES_MOST = 1000, 10_000
_PAGE, _PAGE_MOST = 2 * 2**20, 16 * 2**20  # bytes
_ALL, _ALL_MOST = 256 * 2**20, 4 * 2**30  # bytes
_RATE, _RATE_LEAST, _RATE_MOST, _RATE_NAMED = 1.0, 0.001, 10.0, 100.0  # requests in a second
_CONTACT = re.compile(r"[!-'*-~][ -'*-~]{0,198}[!-'*-~]\Z")  # visible, without parentheses


@dataclass(frozen=True)
class CrawlSource:
    """Pages of one site. Zeros are the defaults."""

    records: ClassVar[Records] = Records.DOCUMENTS
    start_urls: tuple[str, ...]
    path_prefix: str = ""
    depth: int = 0
    max_pages: int = 0
    max_page_bytes: int = 0
    max_bytes: int = 0
    requests_per_second: float = 0.0
    contact: str = ""
    sitemaps: bool = False

    @property
    def pages(self) -> int:
        """That one walk asks for, at most."""
        return self.max_pages or _PAGES

    @property
    def page_bytes(self) -> int:
        """That are read of one page."""
        return self.max_page_bytes or _PAGE

    @property
    def bytes(self) -> int:
        """That one walk reads."""
        return self.max_bytes or _ALL

    @property
    def rate(self) -> float:
        """Requests in a second."""
        return self.requests_per_second or _RATE

    @property
    def agent(self) -> str:
        """The header by which the server knows it."""
        return f"{AGENT}/1.0" + (f" (+{self.contact})" if self.contact else "")

    @property
    def reach(self) -> str:
        """Changes with what decides which pages are found: links of pages that are as they were are not read again."""
        said = (self.start_urls, self.path_prefix, self.depth, self.pages, self.page_bytes, self.bytes, self.sitemaps)
        return hashlib.sha256(repr(said).encode()).hexdigest()[:16]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "CrawlSource":
        """From plain values by the names of the fields, as they are stored and sent."""
        return cls(**{**values, "start_urls": tuple(values["start_urls"])})


def site(source: CrawlSource) -> Site:
    """The one site that is crawled. Raises invalid_value."""
    found = [site_of(url, source.path_prefix) for url in source.start_urls]
    if len({one.origin for one in found}) != 1:
        raise InvalidValue("the start_urls must be of one site: the same scheme, host and port")
    if away := next((one for one in source.start_urls if found[0].joined(one, one) is None), None):
        raise InvalidValue(f"{away[:100]} is not below the path_prefix")
    return found[0]


def check(source: CrawlSource) -> None:
    """Raises invalid_value for a description that no crawl can have."""
    if not 0 < len(source.start_urls) <= _STARTS:
        raise InvalidValue(f"there must be 1 to {_STARTS} start_urls")
    if source.path_prefix and not source.path_prefix.startswith("/"):
        raise InvalidValue("the path_prefix must begin with a slash")
    site(source)
    if not 0 <= source.depth <= _DEPTH:
        raise InvalidValue(f"depth must be between 0 and {_DEPTH}")
    most = {"max_pages": _PAGES_MOST, "max_page_bytes": _PAGE_MOST, "max_bytes": _ALL_MOST}
    for name, limit in most.items():
        if not 0 <= getattr(source, name) <= limit:
            raise InvalidValue(f"{name} must be between 1 and {limit}")
    rate = source.requests_per_second
    if not math.isfinite(rate) or (rate and not _RATE_LEAST <= rate <= _RATE_NAMED):
        raise InvalidValue(f"requests_per_second must be between {_RATE_LEAST} and {_RATE_NAMED:g}")
    if source.contact and not _CONTACT.match(source.contact):
        raise InvalidValue("the contact must have 2 to 200 visible ASCII characters, without parentheses")


def check_rate(source: CrawlSource, named: bool) -> None:
    """Raises invalid_value for a rate that only a server may be asked at which the operator has named."""
    if source.rate > _RATE_MOST and not named:
        rule = f"requests_per_second must be at most {_RATE_MOST:g}"
        raise InvalidValue(f"{rule} for a server that the operator has not named (AIMASS_EGRESS_ALLOW)")
