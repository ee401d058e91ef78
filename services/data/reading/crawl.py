"""A crawl: the pages of a site, one after the other, as far as its robots.txt, its pace and its bounds let it.

Links are read from pages that have changed only. What a page says is believed of itself alone.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.data.reading import addresses, crawl_records, crawls, pages, robots
from services.data.reading.crawl_records import Document, is_packed, is_read
from services.data.reading.crawl_site import BUSY, SECONDS, Answer, Pace, Server, away
from services.data.reading.crawls import CrawlSource
from services.data.reading.folders import Place
from services.data.reading.frontier import SITEMAP, Frontier, Waiting
from services.data.reading.patience import Patience
from services.data.reading.robots import Robots
from services.kit.errors import Code, FailedPrecondition, Failure

_HOPS, _ATTEMPTS = 5, 3
_ANSWER = 5.0  # seconds that an answer may take, however short the run is
_MOVED = (301, 302, 303, 307, 308)
_AWAY = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
_PAUSE = 3600.0  # seconds, at most, that a server may ask for without the run ending


class _TooEarly(Exception):
    """The turn of the next request comes when the run has ended."""


class _Busy(_TooEarly):
    """And it is for a page that says so itself."""


class Crawl:
    """One run of it."""

    def __init__(
        self,
        source: CrawlSource,
        place: Place,
        cursor: Mapping[str, Any],
        seconds: float,
        patience: Patience | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`seconds`: after which the rest is left for the next run; `tell`: that it waits.

        Raises invalid_value, egress_denied.
        """
        crawls.check_rate(source, place.trusted)
        self._source, self._site, self._patience = source, crawls.site(source), patience or Patience()
        self.frontier, self._until = Frontier(cursor), time.monotonic() + seconds
        self._server = Server(self._site, place, source.agent, min(SECONDS, max(seconds / 2, _ANSWER)))
        self._pace = Pace(self.frontier.asked, self.frontier.pause, self._until, tell)
        self._robots, self._believed = Robots(), 0.0
        self._fetched = 0
        # What people should know, with how often it was so.
        self._counts = Counter[str]()

    def __enter__(self) -> "Crawl":
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.__exit__()

    def documents(self) -> Iterator[Document]:
        """What is new of each page. Raises unavailable when the server is away and nothing was read."""
        frontier = self.frontier
        try:
            self._believe()
            frontier.begin(*self._starts())
            while frontier.waiting and not self._is_full():
                if time.monotonic() > self._until:
                    return
                if found := self._next():
                    yield found
        except _TooEarly:
            self._counts["more requests would have come too early"] += 1
            return
        except Failure as failure:
            if not self._fetched or failure.code not in _AWAY:
                raise
            self._counts[f"time the server went away: {failure.detail}"] += 1
            return
        frontier.finish()

    def _starts(self) -> tuple[Sequence[Waiting], str, int, int]:
        source = self._source
        starts = [Waiting(url, 0) for url in map(self._own, source.start_urls) if url]
        maps = self._robots.sitemaps if source.sitemaps and source.depth else ()
        starts += [Waiting(url, SITEMAP) for one in maps if (url := self._own(one, anywhere=True))]
        return starts, f"{source.reach}{self._robots.digest}", source.pages, source.depth

    def _is_full(self) -> bool:
        frontier, source = self.frontier, self._source
        if frontier.done < source.pages and frontier.read < source.bytes:
            return False
        self._counts["pages were left out: max_pages or max_bytes is reached"] += len(frontier.waiting)
        frontier.cut = True
        return True

    def _next(self) -> Document | None:
        frontier, one = self.frontier, self.frontier.pop()
        if not self._robots.allows(self._site.target(one.url)):
            frontier.skip(one)
            self._counts["pages are left out as robots.txt asks"] += 1
            return None
        try:
            return self._visit(one)
        except (Failure, _TooEarly) as ended:
            frontier.put_back(replace(one, busy=one.busy + 1) if isinstance(ended, _Busy) else one)
            raise

    def _own(self, url: str, anywhere: bool = False) -> str | None:
        return self._site.joined(url, url, anywhere)

    def end(self) -> tuple[dict[str, Any], list[str]]:
        """The cursor, and notes for people."""
        self.frontier.asked, self.frontier.pause = self._pace.asked, self._pace.pause
        notes = [f"{count} {text}" for text, count in self._counts.items()]
        if left := len(self.frontier.waiting):
            notes.append(f"{left} pages are left for the next run")
        return self.frontier.to_json(), notes

    @property
    def share(self) -> float:
        """How much of the walk is done, of what is known by now."""
        done = self.frontier.done
        return done / ((done + len(self.frontier.waiting)) or 1)

    def look(self) -> None:
        """Asks for the first page. Raises invalid_value, failed_precondition, unavailable with the reason why not."""
        self._believe()
        host, url = self._site.host, self._own(self._source.start_urls[0]) or ""
        for _ in range(_HOPS):
            if not self._robots.allows(self._site.target(url)):
                raise FailedPrecondition(f"robots.txt of {host} does not allow {crawls.AGENT} to read {url[:200]}")
            try:
                answer = self._ask(url, 1)
            except _TooEarly:
                return
            if answer.status in BUSY:
                raise away(host, answer.status)
            if answer.status not in _MOVED:
                break
            target = self._site.joined(url, answer.headers.get("location", ""))
            if target is None:
                rule = f"{url[:200]} leads out of what is crawled"
                raise FailedPrecondition(f"{rule}: write the address that it leads to into start_urls")
            url = target
        if answer.status != 200:
            raise FailedPrecondition(f"{host} answers {answer.status} for {url[:200]}")

    def _believe(self) -> bool:
        """Reads what robots.txt allows; whether that was at the first attempt.

        Raises unavailable: as long as it is not known, nothing is allowed.
        """
        first = True
        while True:
            try:
                self._robots = self._robots_now()
            except Failure as failure:
                self._patience.bear(failure)
                first = False
                continue
            self._believed = time.monotonic()
            return first

    def _robots_now(self) -> Robots:
        url = f"{self._site.origin}/robots.txt"
        for _ in range(_HOPS + 1):
            answer = self._ask(url, robots.LARGEST)
            if answer.status in BUSY or answer.status >= 500:
                raise away(self._site.host, answer.status)
            if answer.status == 200 and is_packed(answer):
                raise FailedPrecondition(f"robots.txt of {self._site.host} is packed, which nobody asked for")
            if answer.status == 200:
                return robots.parse(answer.body, crawls.AGENT)
            if answer.status not in _MOVED:
                return Robots()
            target = self._site.joined(url, answer.headers.get("location", ""), anywhere=True)
            if target is None:
                text = f"robots.txt of {self._site.host} leads to another server, which is not asked"
                raise FailedPrecondition(f"{text}: nothing is allowed until it is answered where it belongs")
            url = target
        return Robots()

    def _ask(self, url: str, most: int, headers: Mapping[str, str] | None = None, readable: bool = False) -> Answer:
        """An answer, in its turn. Raises unavailable, deadline_exceeded."""
        if not self._pace.turn(max(1 / self._source.rate, self._robots.delay)):
            raise _TooEarly
        answer = self._server.get(url, most, headers, is_read if readable else lambda _: True)
        if answer.status in BUSY and answer.retry_seconds:
            self._pace.put_off(min(answer.retry_seconds, _PAUSE))
        return answer

    def _visit(self, one: Waiting) -> Document | None:
        """What is new of a page. Raises unavailable when it is the server that is away, and not this page."""
        if time.monotonic() - self._believed > robots.SECONDS:
            self._believe()
        answer = self._answered(one)
        if answer is None:
            # Whoever links to it may not change: the next walk looks at all links.
            self.frontier.cut = True
            self.frontier.met(one, "")
            self._counts["pages did not answer, though the server does"] += 1
            return None
        self._fetched += 1
        self._patience.got_on()
        self.frontier.read += len(answer.body)
        if answer.status == 304 and (known := self.frontier.pages.get(one.url)):
            self.frontier.met(one, "", known.etag, known.modified)
            return None
        if answer.status in _MOVED:
            self._moved(one, answer)
            return None
        if one.depth == SITEMAP:
            self._sitemap(one, answer)
            return None
        if answer.status != 200:
            new = self.frontier.missing(one, answer.status)
            return crawl_records.record(one, answer) if new else None
        return self._page(one, answer)

    def _answered(self, one: Waiting) -> Answer | None:
        """An answer that says something of the page; None where only the rest of the server answers.

        A page that asks to come later than a run waits is put off to the next runs, and others with it: not for ever.

        Raises unavailable.
        """
        busy = False
        try:
            for _ in range(2):
                for attempt in range(_ATTEMPTS):
                    try:
                        headers = self.frontier.conditions(one)
                        answer = self._ask(one.url, self._source.page_bytes, headers, readable=True)
                        busy = answer.status in BUSY
                        if not busy:
                            return answer
                    except Failure as failure:
                        if failure.code not in _AWAY:
                            raise
                        if failure.code is Code.DEADLINE_EXCEEDED:
                            break
                    self._pace.put_off(float(attempt))
                # Whether it is the page or the server, robots.txt tells.
                if self._believe():
                    break
        except _TooEarly:
            if not busy:
                raise
            if one.busy + 1 < _ATTEMPTS:
                raise _Busy from None
        return None

    def _moved(self, one: Waiting, answer: Answer) -> None:
        anywhere = one.depth == SITEMAP
        target = self._site.joined(one.url, answer.headers.get("location", ""), anywhere)
        self.frontier.missing(one, answer.status)
        if target is None:
            self._counts["redirects lead out of what is crawled and were not followed"] += 1
        else:
            self.frontier.add(target, one.depth, one.hops + 1)

    def _sitemap(self, one: Waiting, answer: Answer) -> None:
        self.frontier.missing(one, answer.status)
        text = pages.decoded(answer.body, answer.header("content-type")) if answer.status == 200 else None
        more, found = pages.locations(text or "")
        for link in more if one.hops < 1 else ():
            if url := self._site.joined(one.url, link, anywhere=True):
                self.frontier.add(url, SITEMAP, 1)
        self._add(one.url, found, 1)

    def _add(self, base: str, links: Sequence[str], depth: int | None) -> int:
        """How many pages of the site are linked; at what depth they wait, if they may."""
        found = dict.fromkeys(url for link in links if (url := self._site.joined(base, link)))
        for url in found if depth is not None else ():
            self.frontier.add(url, depth or 0)
        return len(found)

    def _page(self, one: Waiting, answer: Answer) -> Document | None:
        found = crawl_records.read(answer)
        deeper = one.depth + 1 if found.follow and one.depth < self._source.depth else None
        base = (addresses.normal(one.url, found.base) if found.base else None) or one.url
        links = self._add(base, found.links, deeper)
        etag, modified = answer.header("etag"), answer.header("last-modified")
        new = self.frontier.met(one, crawl_records.mark(answer), etag, modified)
        if not found.index:
            self._counts["pages ask not to be kept"] += 1
            return None
        return crawl_records.record(one, answer, found, links) if new else None
