"""Sites that are crawled: politely, each page once until it changes, and bounded whatever the site answers."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from aimass.v1 import extractions_pb2, operations_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data.extracting import Tenant
from tests.support import buckets
from tests.support.endpoints import Answer, Endpoints
from tests.support.house import house
from tests.support.refused import refused

COLUMNS = [
    {"name": name, "from": f"$.{name}", "type": f"COLUMN_TYPE_{kind}"}
    for name, kind in (("url", "STRING"), ("status", "INT64"), ("title", "STRING"), ("text", "STRING"))
]
RULE = {"json": {"columns": COLUMNS}}
HTML = {"content-type": "text/html; charset=utf-8"}


@pytest.fixture
def web() -> Iterator[Endpoints]:
    with Endpoints() as made:
        yield made


@pytest.fixture
async def tenant(home: Path) -> AsyncIterator[Tenant]:
    async with house(home, "data", AIMASS_EGRESS_ALLOW="127.0.0.1") as running:
        yield Tenant(running)


def crawl(web: Endpoints, *starts: str, **more: Any) -> dict[str, Any]:
    said = {"start_urls": [f"{web.url}{start}" for start in starts or ("/",)], "requests_per_second": 100, "depth": 3}
    return {"crawl": {**said, **more}}


def page(*links: str, text: str = "", **more: str) -> Any:
    """What answers with a page that links to others, conditionally."""
    body = f"<title>{text}</title><p>{text}</p>" + "".join(f'<a href="{link}">x</a>' for link in links)

    def answer(asked: dict[str, str], headers: dict[str, str]) -> Answer:
        etag = f'"{hash(body)}"'
        if headers.get("if-none-match") == etag:
            return 304, {}, b""
        return 200, {**HTML, "etag": etag, **more}, body.encode()

    return answer


def asked(web: Endpoints) -> list[str]:
    """The pages that were asked for since the last look, without robots.txt."""
    found = [target for target, _ in web.asked if target != "/robots.txt"]
    web.asked.clear()
    return found


async def read(tenant: Tenant, name: str = "a") -> tuple[list[str], str]:
    """The paths of the pages that a run adds, and what it says of itself."""
    done = await tenant.ended((await tenant.begin(name)).operation)
    assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
    run = extractions_pb2.Extraction.FromString(done.response.value)
    rows = (await tenant.rows(name))[-run.rows_accepted :] if run.rows_accepted else []
    return [str(row["url"]).partition("//")[2].partition("/")[2] for row in rows], done.message


async def test_a_site_is_read_along_its_links_and_again_where_it_has_changed(tenant: Tenant, web: Endpoints) -> None:
    web.answers |= {"/": page("b#top", "/c?x=1", "http://elsewhere.example/", text="First"), "/b": page("/", "d")}
    web.answers |= {"/c": page(), "/d": page("/e"), "/e": page("/f"), "/f": page()}
    await tenant.rule("a", crawl(web), RULE)
    asked(web)
    assert (await read(tenant))[0] == ["", "b", "c?x=1", "d", "e"]
    assert asked(web) == ["/", "/b", "/c?x=1", "/d", "/e"]
    assert (await tenant.rows("a"))[0] == {
        "url": f"{web.url}/",
        "status": 200.0,
        "title": "First",
        "text": "First\nxxx",
    }
    assert await read(tenant) == ([], "nothing new")
    assert all("if-none-match" in headers for target, headers in web.asked if target != "/robots.txt")
    web.answers |= {"/b": page("/", "/new"), "/new": page()}
    del web.answers["/d"]
    assert (await read(tenant))[0] == ["b", "d", "new"]
    assert [row["status"] for row in await tenant.rows("a") if row["url"].endswith("/d")] == [200.0, 404.0]
    asked(web)
    assert (await read(tenant))[0] == []
    assert sorted(asked(web)) == ["/", "/b", "/c?x=1", "/d", "/e", "/new"]
    assert (await read(tenant))[0] == []
    assert "/d" not in asked(web)


async def test_the_cursor_and_what_waits_are_shown(tenant: Tenant, web: Endpoints) -> None:
    web.answers |= {"/": page("/b", "/c"), "/b": page(), "/c": page()}
    await tenant.rule("a", crawl(web), RULE)
    await read(tenant)
    found = await tenant.stub(ExtractionsStub).GetCursor(extractions_pb2.GetCursorRequest(rule="a"))
    assert dict(found.cursor) == {"pages": 3, "waiting": 0, "walk": 1, "done": 3, "bytes": found.cursor["bytes"]}
    assert [(part.part, part.position, part.lag) for part in found.parts] == [(web.url, 3, 0)]


async def test_a_preview_shows_pages_before_anything_is_saved(tenant: Tenant, web: Endpoints) -> None:
    web.answers |= {"/": page("/b", text="Hello"), "/b": page()}
    request = ParseDict(crawl(web), pb.PreviewSourceRequest())
    shown = await tenant.stub(SourcesStub).PreviewSource(request)
    assert [(record["url"], record["title"]) for record in shown.records] == [
        (f"{web.url}/", "Hello"),
        (f"{web.url}/b", None),
    ]
    assert [column.name for column in shown.schema.columns][:3] == ["url", "status", "content_type"]
    assert list(shown.parts) == [web.url]


async def test_pages_land_once_for_all_rules_and_come_from_there_again(tenant: Tenant, web: Endpoints) -> None:
    web.answers |= {"/": page("/b", text="First"), "/b": page(text="Second")}
    await tenant.rule("a", {**crawl(web), "landed": True}, RULE)
    run = await tenant.extract("a")
    assert (run.records_landed, run.rows_accepted) == (2, 2)
    web.answers["/b"] = page(text="Third")
    assert (await tenant.extract("a")).records_landed == 1
    web.asked.clear()
    request = extractions_pb2.RunExtractionRequest(rule="a", origin=extractions_pb2.EXTRACTION_ORIGIN_WAREHOUSE)
    begun = await tenant.stub(ExtractionsStub).RunExtraction(request)
    assert (await tenant.ended(begun.operation)).state == operations_pb2.OPERATION_STATE_SUCCEEDED
    assert [row.get("title") for row in await tenant.rows("a")] == ["First", "Second", "Third"]
    assert web.asked == []


async def test_robots_txt_is_obeyed_and_says_whom_it_is_asked_by(tenant: Tenant, web: Endpoints) -> None:
    rules = b"user-agent: *\ndisallow: /\n\nUser-Agent: AIMass-Crawler\nDisallow: /no\nAllow: /no/but\n"
    web.answers |= {"/robots.txt": rules, "/": page("/no/a", "/no/but", "/b"), "/no/but": page(), "/b": page()}
    await tenant.rule("a", crawl(web, contact="mailto:me@example.org"), RULE)
    found, message = await read(tenant)
    assert (found, "1 pages are left out as robots.txt asks" in message) == (["", "no/but", "b"], True)
    assert {headers["user-agent"] for _, headers in web.asked} == {"aimass-crawler/1.0 (+mailto:me@example.org)"}
    assert not [target for target, _ in web.asked if target == "/no/a"]
    web.answers["/robots.txt"] = b"user-agent: *\ndisallow: /\n"
    request = ParseDict({"source": "b", **crawl(web)}, pb.CreateSourceRequest())
    failure = await refused(tenant.stub(SourcesStub).CreateSource(request))
    assert failure.code is Code.FAILED_PRECONDITION
    assert "robots.txt of 127.0.0.1 does not allow aimass-crawler" in failure.detail


async def test_what_pages_ask_of_robots_is_done(tenant: Tenant, web: Endpoints) -> None:
    meta = b'<meta name="Robots" content="noindex, follow"><a href="/c">c</a><a rel="ugc nofollow" href="/d">d</a>'
    web.answers |= {"/": page("/b", "/hidden"), "/hidden": page("/e", **{"x-robots-tag": "nofollow"})}
    web.answers |= {"/b": lambda *_: (200, HTML, meta), "/c": page()}
    await tenant.rule("a", crawl(web), RULE)
    assert await read(tenant) == (["", "hidden", "c"], "3 rows of 3 records, 0 quarantined; 1 pages ask not to be kept")


async def test_what_a_walk_leaves_for_want_of_room_the_next_one_finds(tenant: Tenant, web: Endpoints) -> None:
    web.answers |= {"/": page(*(f"/{n}" for n in range(5)))} | {f"/{n}": page(text=str(n)) for n in range(5)}
    await tenant.rule("a", crawl(web, max_pages=3), RULE)
    found, message = await read(tenant)
    assert (found, "3 pages were left out: max_pages" in message) == (["", "0", "1"], True)
    update = {"source": "a", "update_mask": "crawl", **crawl(web, max_pages=10)}
    await tenant.stub(SourcesStub, **{"if-match": "*"}).UpdateSource(ParseDict(update, pb.UpdateSourceRequest()))
    assert (await read(tenant))[0] == ["2", "3", "4"]


async def test_redirects_are_followed_on_the_site_only_and_not_for_ever(tenant: Tenant, web: Endpoints) -> None:
    def to(target: str) -> Any:
        return lambda *_: (302, {"location": target}, b"")

    web.answers |= {"/": page("/r", "/ring", "/out", "/long/0", "/inside"), "/r": to("/b"), "/b": page()}
    web.answers |= {
        "/ring": to("/ring2"),
        "/ring2": to("/ring"),
        "/out": to("http://10.0.0.1/"),
        "/inside": to("http://127.0.0.1:1/"),
    }
    web.otherwise = lambda target, _: (302, {"location": f"/long/{int(target[6:]) + 1}"}, b"")
    web.answers["/robots.txt"] = b""
    await tenant.rule("a", crawl(web), RULE)
    asked(web)
    found, message = await read(tenant)
    assert (found, "2 redirects lead out of what is crawled" in message) == (["", "b"], True)
    assert [target for target in asked(web) if "long" in target] == [f"/long/{n}" for n in range(6)]
    request = ParseDict({"source": "b", **crawl(web, "/out")}, pb.CreateSourceRequest())
    failure = await refused(tenant.stub(SourcesStub).CreateSource(request))
    assert failure.code is Code.FAILED_PRECONDITION
    assert "leads out of what is crawled: write the address" in failure.detail


async def test_sitemaps_of_robots_txt_begin_pages_too(tenant: Tenant, web: Endpoints) -> None:
    web.answers |= {"/": page(), "/lonely": page(), "/robots.txt": f"sitemap: {web.url}/index.xml".encode()}
    index = f"<sitemapindex><sitemap><loc>{web.url}/map.xml</loc></sitemap></sitemapindex>"
    listed = f"<urlset><url><loc> {web.url}/lonely </loc></url><url><loc>http://other.example/</loc></url></urlset>"
    xml = {"content-type": "application/xml"}
    web.answers |= {
        "/index.xml": lambda *_: (200, xml, index.encode()),
        "/map.xml": lambda *_: (200, xml, listed.encode()),
    }
    await tenant.rule("a", crawl(web, sitemaps=True), RULE)
    assert (await read(tenant))[0] == ["", "lonely"]
    assert (await read(tenant))[0] == []


async def test_a_site_without_an_end_ends_at_the_bounds(tenant: Tenant, web: Endpoints) -> None:
    def calendar(target: str, headers: dict[str, str]) -> Answer:
        day = int(target.rpartition("=")[2] or 0) if "=" in target else 0
        following = f"?at={2 * day + 1}", f";jsessionid={day}x?at={2 * day + 2}", "/a/a/a/a"
        return 200, HTML, "".join(f'<a href="/day{one}">x</a>' for one in following).encode()

    web.otherwise = calendar
    web.answers |= {"/robots.txt": b""}
    await tenant.rule("a", crawl(web, depth=20, max_pages=30), RULE)
    asked(web)
    await read(tenant)
    found = asked(web)
    assert len(found) == len(set(found)) == 30
    assert not [target for target in found if "jsessionid" in target or "/a/a/a/a" in target]


async def test_a_page_that_is_huge_slow_packed_or_lies_is_one_page_that_is_less(tenant: Tenant, web: Endpoints) -> None:
    web.answers |= {
        "/": page("/huge", "/packed", "/image", "/lies", "/latin", "/reset", "/section", "/same", "/z"),
        "/huge": lambda *_: (200, HTML, b"<p>begin" + b"x" * 3_000_000),
        "/packed": lambda *_: (200, {**HTML, "content-encoding": "gzip"}, b"\x1f\x8b\x08"),
        "/image": lambda *_: (200, {"content-type": "image/png"}, b"\x89PNG"),
        "/lies": lambda *_: (200, HTML, b"\x89PNG\0\0\0"),
        "/latin": lambda *_: (200, HTML, "<p>Müller".encode("latin-1")),
        "/section": lambda *_: (200, HTML, b"<p>begin<!--" + b"." * 70_000 + b"--><![what[<p>end"),
        "/same": lambda *_: (304, HTML, b""),
        "/z": page(text="last"),
    }
    cut = {"name": "truncated", "from": "$.truncated", "type": "COLUMN_TYPE_BOOL"}
    await tenant.rule("a", crawl(web), {"json": {"columns": [*COLUMNS, cut]}})
    web.faults += [*[lambda _: False] * 7, *[buckets.reset] * 3]
    found, message = await read(tenant)
    assert found == ["", "huge", "packed", "image", "lies", "latin", "section", "same", "z"]
    assert "1 pages did not answer, though the server does" in message
    rows = {str(row["url"]).rpartition("/")[2]: row for row in await tenant.rows("a")}
    assert rows["huge"]["truncated"]
    assert len(rows["huge"]["text"]) == 65_536
    assert [rows[name]["text"] for name in ("packed", "image", "lies")] == [None] * 3
    assert rows["latin"]["text"] == "Müller"
    assert rows["section"]["text"].startswith("begin")
    assert rows["same"]["status"] == 304, "nobody had asked whether it is the same"


async def test_a_server_that_is_away_is_waited_for_and_nothing_is_doubled(tenant: Tenant, web: Endpoints) -> None:
    web.answers |= {"/": page("/b", "/c"), "/b": page(), "/c": page()}
    await tenant.rule("a", crawl(web), RULE)
    web.faults += [buckets.said(503, b"")] * 3
    assert (await read(tenant))[0] == ["", "b", "c"]
    web.faults += [lambda _: False, lambda _: False, *[buckets.said(503, b"")] * 4]
    web.answers |= {name: page(text="new") for name in ("/", "/b", "/c")}
    assert (await read(tenant))[0] == ["", "b", "c"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"start_urls": []}, "start_urls"),
        ({"start_urls": ["https://a.example/", "https://b.example/"]}, "must be of one site"),
        ({"start_urls": ["ftp://a.example/"]}, "such as https://host/path"),
        ({"start_urls": ["https://u:p@a.example/"]}, "without a password"),
        ({"start_urls": ["https://a.example/x"], "path_prefix": "/docs/"}, "not below the path_prefix"),
        ({"path_prefix": "docs"}, "must begin with a slash"),
        ({"depth": 21}, "depth must be between 0 and 20"),
        ({"max_pages": 10_001}, "max_pages must be between 1 and 10000"),
        ({"max_page_bytes": -1}, "max_page_bytes"),
        ({"max_bytes": 2**40}, "max_bytes"),
        ({"requests_per_second": 101}, "requests_per_second must be between"),
        ({"requests_per_second": "NaN"}, "requests_per_second"),
        ({"contact": "a\r\nx: y"}, "contact"),
    ],
)
async def test_what_cannot_be_crawled_is_refused(
    tenant: Tenant, web: Endpoints, more: dict[str, Any], says: str
) -> None:
    request = ParseDict({"source": "a", **crawl(web, **more)}, pb.CreateSourceRequest())
    failure = await refused(tenant.stub(SourcesStub).CreateSource(request))
    assert (failure.code, says in failure.detail) == (Code.INVALID_VALUE, True)
