"""How far a crawl is: the pages that it knows, and those that it has still to ask for. Pure, and bounded.

A walk is one way through a site. It may take several runs; the next one begins with all pages that are known.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from services.data.reading.addresses import is_trap

# What a page had that has no content, with its status; one that was not found twice is no longer asked for by itself.
STATUS, GONE = "status:", "gone"
SITEMAP = -1  # the depth of what names pages and is none
_ENTRIES, _CHARACTERS = 20_000, 4 * 2**20  # of addresses that are known in a walk
_VARIANTS = 100  # queries of one path
_HOPS = 5  # redirects one after the other
_MARK = 128  # characters of an ETag or a time that are kept


@dataclass
class Known:
    """A page that was asked for. `mark`: what it had then; `walk`: when it was last asked for."""

    mark: str
    etag: str
    modified: str
    depth: int
    walk: int

    @property
    def read(self) -> bool:
        """Whether it had content, so that it may be as it was."""
        return self.mark not in ("", GONE) and not self.mark.startswith(STATUS)


@dataclass(frozen=True)
class Waiting:
    """A page that is to be asked for. `busy`: how many runs it has ended, by an answer to come again much later."""

    url: str
    depth: int
    hops: int = 0
    busy: int = 0


class Frontier:
    """The state of a crawl."""

    def __init__(self, cursor: Mapping[str, Any]) -> None:
        self.pages = {url: Known(*rest) for url, *rest in cursor.get("pages", ())}
        self.waiting = deque(Waiting(*one) for one in cursor.get("waiting", ()))
        self.walk, self.done, self.read = (int(cursor.get(name, 0)) for name in ("walk", "done", "bytes"))
        # What decided which pages were found, in this walk and in the last one that came to its end.
        self.reach, self.settled = str(cursor.get("reach", "")), str(cursor.get("settled", ""))
        self.cut = bool(cursor.get("cut", False))
        self.asked, self.pause = float(cursor.get("asked", 0.0)), float(cursor.get("pause", 0.0))
        self._queued = {one.url for one in self.waiting}
        seen = self._queued | {url for url, page in self.pages.items() if page.walk == self.walk}
        self._size = sum(map(len, seen))
        self._paths = Counter(url.partition("?")[0] for url in seen if "?" in url)
        self._entries = len(seen)

    def to_json(self) -> dict[str, Any]:
        """The cursor."""
        return {
            "pages": [[url, *astuple(page)] for url, page in self.pages.items()],
            "waiting": [list(astuple(one)) for one in self.waiting],
            "walk": self.walk,
            "done": self.done,
            "bytes": self.read,
            "cut": self.cut,
            "reach": self.reach,
            "settled": self.settled,
            "asked": self.asked,
            "pause": self.pause,
        }

    def begin(self, starts: Sequence[Waiting], reach: str, most: int, depth: int) -> None:
        """Goes on with a walk, or begins one: with these pages, and those that are known."""
        if self.waiting and self.reach == reach:
            return
        self.waiting.clear()
        self.walk, self.done, self.read, self.reach, self.cut = self.walk + 1, 0, 0, reach, False
        self._queued, self._size, self._paths, self._entries = set(), 0, Counter(), 0
        self._forget()
        for one in starts:
            self.add(one.url, one.depth)
        known = [(not page.read, page.depth, url) for url, page in self.pages.items() if page.mark != GONE]
        for _, at, url in sorted(one for one in known if 0 <= one[1] <= depth)[:most]:
            self.add(url, at)

    def _forget(self) -> None:
        """What was not met for longest, where too much is known."""
        newest = sorted(self.pages.items(), key=lambda one: -one[1].walk)
        left, size = _ENTRIES // 2, _CHARACTERS // 2
        for number, (url, _) in enumerate(newest):
            size -= len(url)
            if number >= left or size < 0:
                del self.pages[url]

    def add(self, url: str, depth: int, hops: int = 0) -> None:
        """Puts a page into the queue, unless it was in it during this walk; a redirect's target comes next."""
        known = self.pages.get(url)
        if url in self._queued or (known and known.walk == self.walk) or hops > _HOPS or is_trap(url):
            return
        path, query, _ = url.partition("?")
        full = self._entries >= _ENTRIES or self._size + len(url) > _CHARACTERS
        if full or (query and self._paths[path] >= _VARIANTS):
            self.cut = True
            return
        self._paths[path] += 1 if query else 0
        self._entries, self._size = self._entries + 1, self._size + len(url)
        self._queued.add(url)
        found = Waiting(url, depth, hops)
        if hops:
            self.waiting.appendleft(found)
        else:
            self.waiting.append(found)

    def pop(self) -> Waiting:
        """The next page; whoever takes it says what became of it, or puts it back."""
        found = self.waiting.popleft()
        self._queued.discard(found.url)
        return found

    def skip(self, one: Waiting) -> None:
        """Leaves a page out of this walk, however many link to it."""
        self._queued.add(one.url)

    def put_back(self, one: Waiting) -> None:
        """Leaves a page for the next run."""
        self._queued.add(one.url)
        self.waiting.appendleft(one)

    def met(self, one: Waiting, mark: str, etag: str = "", modified: str = "") -> bool:
        """Keeps what became of a page; whether that is another thing than before. An empty mark: as it was."""
        known = self.pages.get(one.url)
        before, self.done = known.mark if known else "", self.done + 1
        tags = [tag if len(tag) <= _MARK else "" for tag in (etag, modified)]
        depth = min(one.depth, known.depth) if known and known.walk == self.walk else one.depth
        self.pages[one.url] = Known(mark or before, tags[0], tags[1], depth, self.walk)
        return bool(mark) and mark != before

    def conditions(self, one: Waiting) -> dict[str, str]:
        """The headers by which a server says that a page is as it was; none where its links are needed."""
        known = self.pages.get(one.url)
        if known is None or not known.read or self.settled != self.reach:
            return {}
        said = {"if-none-match": known.etag, "if-modified-since": known.modified}
        return {name: value for name, value in said.items() if value}

    def missing(self, one: Waiting, status: int) -> bool:
        """Keeps that a page is refused, or led elsewhere; whether that is new."""
        known, mark = self.pages.get(one.url), f"{STATUS}{status}"
        again = known and known.mark in (mark, GONE) and known.walk != self.walk
        return self.met(one, GONE if again and status in (404, 410) else mark) and not again

    def finish(self) -> None:
        """The walk has come to its end; what it left out for want of room is looked for again by the next one."""
        self.waiting.clear()
        self.settled = "" if self.cut else self.reach
