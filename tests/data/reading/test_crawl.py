"""A crawl from run to run: its pace, what is left for the next run, and its bounds."""

import gzip
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.data.reading import crawls
from services.data.reading.crawl import Crawl
from services.data.reading.crawl_site import Server
from services.data.reading.crawls import CrawlSource
from services.data.reading.folders import Place
from services.data.reading.frontier import Frontier, Waiting
from services.kit.errors import Code, Failure
from tests.support import buckets
from tests.support.endpoints import Answer, Endpoints

HERE = Place(Path("/"), (), "127.0.0.1", True)
HTML = {"content-type": "text/html"}


@pytest.fixture
def web() -> Iterator[Endpoints]:
    with Endpoints() as made:
        yield made


def chain(web: Endpoints, most: int) -> list[float]:
    """A site in which each page links to the next one; when its pages were asked for."""
    times = list[float]()

    def answer(target: str, headers: dict[str, str]) -> Answer:
        times.append(time.monotonic())
        following = int(target.strip("/") or 0) + 1
        return 200, HTML, f'<a href="/{following}">x</a>'.encode() if following < most else b"end"

    web.answers["/robots.txt"] = b""
    web.otherwise = answer
    return times


def run(web: Endpoints, cursor: dict[str, Any], seconds: float = 60.0, **more: Any) -> tuple[list[str], Any, list[str]]:
    """The paths of the documents of a run, its cursor as it is stored, and its notes."""
    source = CrawlSource(**{"start_urls": (f"{web.url}/",), "depth": 20, "requests_per_second": 100.0, **more})
    with Crawl(source, HERE, cursor, seconds) as crawl:
        found = [document["url"].removeprefix(web.url) for document in crawl.documents()]
        after, notes = crawl.end()
    return found, orjson.loads(orjson.dumps(after)), notes


def test_requests_go_one_after_the_other_at_the_pace_that_was_agreed(web: Endpoints) -> None:
    times = chain(web, 5)
    run(web, {}, requests_per_second=5.0)
    assert min(later - sooner for sooner, later in pairwise(times)) > 0.15
    web.answers["/robots.txt"] = b"user-agent: *\ncrawl-delay: 0.3"
    times.clear()
    run(web, {})
    assert min(later - sooner for sooner, later in pairwise(times)) > 0.25


def test_what_the_time_does_not_last_for_is_left_for_the_next_run_and_read_once(web: Endpoints) -> None:
    chain(web, 8)
    found, cursor, runs = list[str](), dict[str, Any](), 0
    while runs == 0 or cursor["waiting"]:
        more, cursor, notes = run(web, cursor, 0.8, requests_per_second=5.0)
        found, runs = found + more, runs + 1
        assert bool(notes) == bool(cursor["waiting"])
    assert (found, runs > 1) == (["/", *(f"/{number}" for number in range(1, 8))], True)


def test_a_delay_that_is_longer_than_a_run_is_kept_by_the_next_one(web: Endpoints) -> None:
    chain(web, 3)
    web.answers["/robots.txt"] = b"user-agent: *\ncrawl-delay: 3600"
    # Nor does a run that has the time wait for so long, while others wait for it.
    found, cursor, notes = run(web, {}, 9000.0)
    assert (found, notes) == (["/"], ["1 more requests would have come too early", "1 pages are left for the next run"])
    web.asked.clear()
    assert run(web, cursor)[0] == []
    assert web.asked == []
    assert run(web, {**cursor, "asked": time.time() - 3601})[0] == ["/1"]


def test_a_server_asks_to_be_left_alone_and_is(web: Endpoints) -> None:
    chain(web, 3)
    web.answers["/1"] = lambda *_: (429, {"retry-after": "600"}, b"")
    found, cursor, _ = run(web, {})
    assert (found, [one[0] for one in cursor["waiting"]]) == (["/"], [f"{web.url}/1"])
    assert len(web.asked) == 3
    assert 599 < cursor["pause"] <= 601


def test_a_page_that_is_always_busy_does_not_keep_the_others_for_ever(web: Endpoints) -> None:
    web.answers |= {
        "/robots.txt": b"",
        "/": lambda *_: (200, HTML, b'<a href="/1">x</a><a href="/2">x</a>'),
        "/1": lambda *_: (503, {"retry-after": "3000"}, b""),
        "/2": lambda *_: (200, HTML, b"end"),
    }
    found, cursor = list[str](), dict[str, Any]()
    for _ in range(4):
        more, cursor, _ = run(web, {**cursor, "asked": 0.0})  # an hour later
        found += more
    assert (found, cursor["waiting"]) == (["/", "/2"], [])
    assert [target for target, _ in web.asked].count("/1") == 3


def test_a_server_that_goes_away_leaves_what_was_read_and_the_rest(web: Endpoints) -> None:
    chain(web, 4)
    web.faults += [lambda _: False] * 3 + [buckets.reset] * 4
    found, cursor, notes = run(web, {})
    assert found == ["/", "/1"]
    assert notes == ["1 time the server went away: 127.0.0.1 cannot be reached", "1 pages are left for the next run"]
    assert run(web, cursor)[0] == ["/2", "/3"]
    web.faults += [buckets.reset] * 9
    with pytest.raises(Failure, match="cannot be reached"):
        run(web, cursor)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_nothing_is_asked_for_while_robots_txt_is_broken(web: Endpoints, status: int) -> None:
    chain(web, 3)
    web.faults.append(buckets.said(status, b""))
    with pytest.raises(Failure) as caught:
        run(web, {})
    assert (caught.value.code, [target for target, _ in web.asked]) == (Code.UNAVAILABLE, ["/robots.txt"])


def test_everything_is_allowed_where_robots_txt_is_not_there(web: Endpoints) -> None:
    chain(web, 3)
    web.faults.append(buckets.said(403, b"user-agent: *\ndisallow: /"))
    assert run(web, {})[0] == ["/", "/1", "/2"]


def test_robots_txt_of_another_server_allows_nothing(web: Endpoints) -> None:
    chain(web, 3)
    web.answers["/robots.txt"] = lambda *_: (301, {"location": "http://127.0.0.1:1/robots.txt"}, b"")
    with pytest.raises(Failure, match="leads to another server") as caught:
        run(web, {})
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_robots_txt_that_is_packed_allows_nothing(web: Endpoints) -> None:
    chain(web, 3)
    packed = gzip.compress(b"user-agent: *\ndisallow: /")
    web.answers["/robots.txt"] = lambda *_: (200, {"content-encoding": "gzip"}, packed)
    with pytest.raises(Failure, match="is packed, which nobody asked for"):
        run(web, {})
    assert [target for target, _ in web.asked] == ["/robots.txt"]


def test_one_answer_has_its_time_and_its_size(web: Endpoints) -> None:
    site = crawls.site(CrawlSource((f"{web.url}/",)))
    web.faults += [buckets.endless, buckets.late(3.0)]
    with Server(site, HERE, "a", seconds=0.5) as server:
        began = time.monotonic()
        answer = server.get(f"{web.url}/x", 100_000)
        assert (len(answer.body), answer.cut) == (100_000, True)
        with pytest.raises(Failure) as caught:
            server.get(f"{web.url}/x", 100)
        assert (caught.value.code, time.monotonic() - began < 3) == (Code.DEADLINE_EXCEEDED, True)


def test_a_public_server_is_asked_ten_times_a_second_at_most_and_by_https(web: Endpoints) -> None:
    public = HERE._replace(trusted=False)
    with pytest.raises(Failure, match="at most 10"):
        Crawl(CrawlSource(("https://a.example/",), requests_per_second=11.0), public, {}, 1.0)
    with pytest.raises(Failure) as caught:
        Crawl(CrawlSource((f"{web.url}/",)), public, {}, 1.0)
    assert caught.value.code is Code.EGRESS_DENIED


def test_what_is_known_is_bounded_however_many_links_there_are() -> None:
    frontier = Frontier({})
    frontier.begin([Waiting("https://a.example/", 0)], "r", 100, 3)
    for number in range(30_000):
        frontier.add(f"https://a.example/{number:0900}", 1)
        frontier.add(f"https://a.example/?q={number}", 1)
    assert len(orjson.dumps(frontier.to_json())) < 5 * 2**20
    assert sum("?" in one.url for one in frontier.waiting) == 100
    frontier.finish()
    assert (frontier.settled, len(frontier.waiting)) == ("", 0)


def test_a_state_survives_being_stored() -> None:
    frontier = Frontier({})
    frontier.begin([Waiting("https://a.example/", 0)], "r", 100, 3)
    one = frontier.pop()
    assert frontier.met(one, "sha256:1", '"e"', "m")
    frontier.add("https://a.example/b?x", 1)
    again = Frontier(orjson.loads(orjson.dumps(frontier.to_json())))
    assert again.to_json() == frontier.to_json()
    again.add("https://a.example/", 1)
    again.add("https://a.example/b?x", 1)
    assert [one.url for one in again.waiting] == ["https://a.example/b?x"]
