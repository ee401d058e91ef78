"""Sites that are crawled: pages as documents, each again when it has changed."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from services.data.reading import crawls, extractor, samples
from services.data.reading.connector import End, PartLag, Sink
from services.data.reading.crawl import Crawl
from services.data.reading.crawl_records import Document
from services.data.reading.crawls import CrawlSource
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled
from services.data.reading.patience import SHARE, Patience
from services.data.reading.samples import Sample, Tried
from services.data.schema import Column, ColumnType

_PAGE = 50  # documents that are typed together
_COLUMNS = tuple(
    Column(name, kind, nullable)
    for name, kind, nullable in (
        ("url", ColumnType.STRING, False),
        ("status", ColumnType.INT64, False),
        ("content_type", ColumnType.STRING, True),
        ("title", ColumnType.STRING, True),
        ("text", ColumnType.STRING, True),
        ("links", ColumnType.INT64, False),
        ("bytes", ColumnType.INT64, False),
        ("truncated", ColumnType.BOOL, False),
        ("digest", ColumnType.STRING, True),
        ("etag", ColumnType.STRING, True),
        ("last_modified", ColumnType.STRING, True),
        ("depth", ColumnType.INT64, False),
        ("fetch_time", ColumnType.TIMESTAMP, False),
    )
)


class CrawlConnector:
    """A site. The cursor has the pages that are known, and those that the walk has still to ask for."""

    apart = True

    def __init__(self, source: CrawlSource) -> None:
        self._source = source

    @property
    def identity(self) -> str:
        """The site: its pages are known one by one, wherever a crawl of it begins."""
        return f"crawl/{hashlib.sha256(crawls.site(self._source).origin.encode()).hexdigest()}"

    @property
    def reaches(self) -> Sequence[tuple[str, int]]:
        """The server of the site."""
        site = crawls.site(self._source)
        return ((site.host, site.port),)

    def ready(self, compiled: Compiled, fields: Sequence[str]) -> Extractor:
        """What extracts documents."""
        return extractor.of(compiled, (), ())

    def below(self, allowed: Sequence[Path]) -> Place:
        """Nothing of this machine."""
        return Place(Path("/"), ())

    def look(self, place: Place) -> None:
        """Asks for robots.txt and the first page."""
        with Crawl(self._source, place, {}, samples.SECONDS) as crawl:
            crawl.look()

    def preview(self, place: Place, records: int) -> Sample:
        """The first pages that come within ten seconds."""
        found = tuple(self._first(place, records))
        return Sample(found, _COLUMNS, (crawls.site(self._source).origin,))

    def _first(self, place: Place, records: int) -> Iterator[Document]:
        with Crawl(self._source, place, {}, samples.SECONDS) as crawl:
            yield from islice(crawl.documents(), records)

    def tries(self, place: Place, compiled: Compiled, records: int) -> Iterator[Tried]:
        """The same, with what extracts them."""
        ready = self.ready(compiled, ())
        for document in self._first(place, records):
            yield Tried(document, ready, ())

    def lag(self, place: Place, cursor: dict[str, Any]) -> Sequence[PartLag] | None:
        """The pages that wait in a walk; whether others have changed, only asking for them tells."""
        done = int(cursor.get("done", 0))
        left = len(cursor["waiting"]) if cursor else len(self._source.start_urls)
        return [PartLag(crawls.site(self._source).origin, done, done + left)]

    def read(self, place: Place, compiled: Compiled, cursor: dict[str, Any], sink: Sink, seconds: float) -> End:
        """The pages that are new or have changed; what the time does not last for is left for the next run."""
        ready, patience = self.ready(compiled, ()), Patience(seconds, sink.wait)
        with Crawl(self._source, place, cursor, seconds * SHARE, patience, sink.wait) as crawl:
            found = crawl.documents()
            while page := list(islice(found, _PAGE)):
                sink.take(ready, page, [document["url"] for document in page], ())
                sink.tell(crawl.share)
            return End(*crawl.end())


def shown(cursor: dict[str, Any]) -> dict[str, Any]:
    """A cursor for people: how many pages are known, and how far the walk is."""
    counts = {"pages": len(cursor["pages"]), "waiting": len(cursor["waiting"])}
    return {**counts, **{name: cursor[name] for name in ("walk", "done", "bytes")}}
