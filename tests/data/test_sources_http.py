"""Endpoints that are polled: asked for what is new, page by page, and bounded whatever they answer."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToJson, ParseDict

from aimass.v1 import operations_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1.data_events_pb2 import SourceChanged
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data.extracting import Tenant
from tests.support import buckets
from tests.support.buckets import said
from tests.support.endpoints import Answer, Endpoints
from tests.support.house import house
from tests.support.refused import refused

COLUMN = {"name": "n", "type": "COLUMN_TYPE_INT64", "required": True}
RULE, CSV = {"json": {"columns": [COLUMN]}}, {"file": {"columns": [COLUMN]}}
SECRET = "Bearer word-of-the-source"


@pytest.fixture
def web() -> Iterator[Endpoints]:
    with Endpoints() as made:
        yield made


@pytest.fixture
async def tenant(home: Path) -> AsyncIterator[Tenant]:
    async with house(home, "data", AIMASS_EGRESS_ALLOW="127.0.0.1") as running:
        yield Tenant(running)


def records(*numbers: int) -> list[dict[str, int]]:
    return [{"n": number} for number in numbers]


async def read(tenant: Tenant, name: str = "a") -> list[int]:
    """The rows of all versions, after a run."""
    await tenant.extract(name)
    return [int(row["n"]) for row in await tenant.rows(name)]


async def test_what_an_endpoint_answers_is_asked_for_conditionally_and_read_on(tenant: Tenant, web: Endpoints) -> None:
    content = [b"n\n1\n2"]

    def answer(asked: dict[str, str], headers: dict[str, str]) -> Answer:
        marks = {"etag": f'"{len(content[0])}"', "last-modified": "Mon, 02 Feb 2026 10:00:00 GMT"}
        if headers.get("if-none-match") == marks["etag"]:
            return 304, {}, b""
        return 200, marks, content[0]

    web.answers["/a.csv"] = answer
    await tenant.rule("a", web.files("/a.csv", "CSV"), CSV)
    assert await read(tenant) == [1, 2]
    web.asked.clear()
    assert (await tenant.extract("a")).records_read == 0
    ((_, headers),) = web.asked
    assert headers["if-none-match"] == '"5"'
    assert headers["if-modified-since"] == "Mon, 02 Feb 2026 10:00:00 GMT"
    content[0] = b"n\n1\n2\n3\n"
    assert await read(tenant) == [1, 2, 3]
    content[0] = b"n\n7\n"
    done = await tenant.ended((await tenant.begin("a")).operation)
    assert "127.0.0.1/a.csv is another file than before and was read from its start" in done.message


async def test_a_mark_that_is_no_header_is_not_sent_back(tenant: Tenant, web: Endpoints) -> None:
    def answer(asked: dict[str, str], headers: dict[str, str]) -> Answer:
        return 200, {"etag": '"\xe9"', "last-modified": "x" * 300}, b"n\n1\n2"

    web.answers["/a.csv"] = answer
    await tenant.rule("a", web.files("/a.csv", "CSV"), CSV)
    assert await read(tenant) == [1, 2]
    assert (await tenant.extract("a")).records_read == 0
    assert not {"if-none-match", "if-modified-since"} & web.asked[-1][1].keys()


async def test_an_array_goes_on_and_an_object_is_a_record_when_it_changes(tenant: Tenant, web: Endpoints) -> None:
    web.answers |= {"/list": orjson.dumps(records(1, 2)), "/now": b'{"n": 1}', "/": b'{"n": 5}\n{"n": 6}'}
    await tenant.rule("a", web.files("/list?x=1"), RULE)
    await tenant.rule("now", web.files("/now"), RULE)
    await tenant.rule("lines", web.files("/", "JSON_LINES"), RULE)
    assert (await read(tenant), await read(tenant, "now"), await read(tenant, "lines")) == ([1, 2], [1], [5, 6])
    web.answers |= {"/list": orjson.dumps(records(1, 2, 3))}
    assert (await read(tenant), (await tenant.extract("now")).records_read) == ([1, 2, 3], 0)
    web.answers |= {"/now": b'{"n": 4}'}
    assert await read(tenant, "now") == [1, 4]


async def test_pages_are_followed_by_their_links_a_field_or_a_parameter(tenant: Tenant, web: Endpoints) -> None:
    def by_link(asked: dict[str, str], headers: dict[str, str]) -> Answer:
        page = int(asked.get("page", 1))
        link = {"link": f'<?page=1>; rel="first", <?page={page + 1}>; rel="next"'} if page < 3 else {}
        return 200, link, orjson.dumps(records(page))

    def by_field(asked: dict[str, str], headers: dict[str, str]) -> Answer:
        page = int(asked.get("at", 1))
        following = f"{web.url}/field?at={page + 1}" if page < 3 else None
        return 200, {}, orjson.dumps({"data": {"items": records(page)}, "next": following})

    def by_word(asked: dict[str, str], headers: dict[str, str]) -> Answer:
        page = int(asked.get("token", "t1")[1:])
        assert asked["size"] == "1 0"
        return 200, {}, orjson.dumps({"items": records(page), "token": f"t{page + 1}" if page < 3 else ""})

    web.answers |= {"/link": by_link, "/field": by_field, "/word": by_word}
    await tenant.rule("link", web.files("/link"), RULE)
    await tenant.rule("field", web.files("/field", records_path="$.data.items", next_path="$.next"), RULE)
    paged = {"records_path": "$.items", "next_path": "$.token", "next_parameter": "token"}
    await tenant.rule("word", web.files("/word?size=1%200", **paged), RULE)
    for name in ("link", "field", "word"):
        assert await read(tenant, name) == [1, 2, 3]
        assert (await tenant.extract(name)).records_read == 0


async def test_a_sample_is_of_the_first_pages_however_many_there_are(tenant: Tenant, web: Endpoints) -> None:
    def answer(asked: dict[str, str], headers: dict[str, str]) -> Answer:
        page = int(asked.get("page", 1))
        return 200, {"link": f'<?page={page + 1}>; rel="next"'} if page < 12 else {}, orjson.dumps(records(page))

    web.answers["/a"] = answer
    await tenant.rule("a", web.files("/a"), RULE)
    assert len(web.asked) == 10
    shown = await tenant.stub(SourcesStub).PreviewSource(pb.PreviewSourceRequest(source="a"))
    assert [record["n"] for record in shown.records] == list(range(1, 11))
    assert await read(tenant) == list(range(1, 13))


async def test_only_records_above_the_last_are_taken_and_asked_for(tenant: Tenant, web: Endpoints) -> None:
    """The newest come first, and those before fall out: an array that does not go on."""
    there: list[dict[str, Any]] = [*records(3, 2, 1)]

    def answer(asked: dict[str, str], headers: dict[str, str]) -> Answer:
        return 200, {"etag": '"always-the-same"'}, orjson.dumps(there)

    web.answers["/a"] = answer
    await tenant.rule("a", web.files("/a?x=1", since_path="$.n", since_parameter="after"), RULE)
    assert await read(tenant) == [3, 2, 1]
    there[:] = records(5, 4, 3, 2)
    assert await read(tenant) == [3, 2, 1, 5, 4]
    assert (await tenant.extract("a")).records_read == 0
    assert [path for path, _ in web.asked][-2:] == ["/a?x=1&after=3", "/a?x=1&after=5"]
    there[:] = [*records(6), {"n": "7"}]
    done = await tenant.ended((await tenant.begin("a")).operation)
    assert done.error.detail == "$.n must be a number in each record, or a text in each"
    there[:] = records(6)
    assert await read(tenant) == [3, 2, 1, 5, 4, 6]


async def test_records_are_not_held_against_the_largest_of_another_value(tenant: Tenant, web: Endpoints) -> None:
    there = [{"n": 101, "m": 1}, {"n": 102, "m": 2}]
    web.answers["/a"] = lambda asked, headers: (200, {}, orjson.dumps(there))
    await tenant.rule("a", web.files("/a", since_path="$.n"), RULE)
    assert await read(tenant) == [101, 102]
    changed = ParseDict({"source": "a", **web.files("/a", since_path="$.m")}, pb.UpdateSourceRequest())
    await tenant.stub(SourcesStub, if_match="*").UpdateSource(changed)
    there.append({"n": 7, "m": 3})
    assert await read(tenant) == [101, 102, 101, 102, 7]
    assert (await tenant.extract("a")).records_read == 0


async def test_each_page_is_asked_for_with_the_value_that_the_first_was(tenant: Tenant, web: Endpoints) -> None:
    there = [1, 2, 3]

    def answer(asked: dict[str, str], headers: dict[str, str]) -> Answer:
        found = [number for number in there if number > int(asked.get("after", 0))]
        page = int(asked.get("page", 0))
        following = page + 1 if len(found) > 2 * page + 2 else None
        return 200, {}, orjson.dumps({"items": records(*found[2 * page : 2 * page + 2]), "next": following})

    web.answers["/a"] = answer
    paged = {"records_path": "$.items", "next_path": "$.next", "next_parameter": "page"}
    await tenant.rule("a", web.files("/a", **paged, since_path="$.n", since_parameter="after"), RULE)
    assert await read(tenant) == [1, 2, 3]
    there += [4, 5, 6]
    web.asked.clear()
    assert await read(tenant) == [1, 2, 3, 4, 5, 6]
    assert [path for path, _ in web.asked] == ["/a?after=3", "/a?after=3&page=1"]


async def test_a_secret_is_sent_in_its_header_stored_encrypted_and_shown_nowhere(
    tenant: Tenant, web: Endpoints, home: Path
) -> None:
    web.answers["/a"] = orjson.dumps(records(1))
    await tenant.rule("a", web.files("/a", secret=SECRET), RULE)
    await tenant.rule("b", web.files("/a", secret=SECRET, header_name="X-Key"), RULE)
    assert (await read(tenant), await read(tenant, "b")) == ([1], [1])
    assert all(SECRET in (headers.get("authorization"), headers.get("x-key")) for _, headers in web.asked)
    shown = [await tenant.stub(SourcesStub).GetSource(pb.GetSourceRequest(source="b"))]
    shown += await tenant.house.heard(SourceChanged, 2)
    assert not any(SECRET in MessageToJson(message) for message in shown)
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    moved = web.files("/a", header_name="X-Key")["files"] | {"pattern": web.url.replace("127.0.0.1", "localhost")}
    update = ParseDict({"source": "b", "files": moved}, pb.UpdateSourceRequest())
    web.asked.clear()
    assert await refused(tenant.stub(SourcesStub, if_match="*").UpdateSource(update))
    assert web.asked == []


def elsewhere(page: Any) -> bytes:
    return orjson.dumps({"items": records(1), "next": page})


LIES: list[tuple[list[buckets.Answer], str]] = [
    ([buckets.endless], "127.0.0.1 answers with more than 64 MiB: ask for less by the query"),
    ([said(401, b"")], "127.0.0.1 answers 401: it refuses the secret, or needs one"),
    ([said(302, b"")], "127.0.0.1 answers 302: write the address that it leads to"),
    ([said(418, b"")], "127.0.0.1 answers 418 for /a"),
    ([said(200, b"<html>")], "127.0.0.1 answers with no JSON document"),
    ([said(200, b'{"items": 1}')], "$.items is no array: set records_path"),
    ([said(200, elsewhere("https://metadata.internal/x"))], "the next page is not on"),
    ([said(200, elsewhere("//127.0.0.1:1/x"))], "the next page is not on"),
    ([said(200, elsewhere("/a"))], "names a page as the next that was read already"),
]


async def test_an_endpoint_that_lies_ends_the_run_with_a_reason_and_the_next_one_reads_all(
    tenant: Tenant, web: Endpoints
) -> None:
    web.answers["/a"] = orjson.dumps({"items": records(1, 2)})
    await tenant.rule("a", web.files("/a", records_path="$.items", next_path="$.next"), RULE)
    for faults, says in LIES:
        web.faults = list(faults)
        done = await tenant.ended((await tenant.begin("a")).operation)
        assert done.state == operations_pb2.OPERATION_STATE_FAILED
        assert says in done.error.detail
    web.faults = [buckets.reset, buckets.busy, buckets.cut]
    assert await read(tenant) == [1, 2]
    assert web.faults == []


BAD: list[tuple[dict[str, Any], str]] = [
    ({"pattern": "https://"}, "the pattern must be an address"),
    ({"pattern": "https://u:p@127.0.0.1/"}, "the pattern must be an address"),
    ({"pattern": "http://127.0.0.1/#x"}, "the pattern must be an address"),
    ({"pattern": "http://127.0.0.1/ä"}, "the pattern must be an address"),
    ({"endpoint": "http://127.0.0.1"}, "endpoint is for patterns that begin with s3://"),
    ({"pattern": "*.json", "next_path": "$.x"}, "next_path is for patterns that begin with https://"),
    ({"header_name": "Host", "secret": "x"}, "Host is no header that a secret is sent in"),
    ({"header_name": "a b", "secret": "x"}, "a b is no header that a secret is sent in"),
    ({"header_name": "X-Key"}, "the header needs its value: set the field secret"),
    ({"secret": "a\r\nb: c"}, "the secret must have visible ASCII"),
    ({"secret": "ä"}, "the secret must have visible ASCII"),
    ({"records_path": "items"}, "records_path must be a path such as $.items"),
    ({"since_path": "$.a[*].b"}, "since_path must be a path such as $.items"),
    ({"next_path": "$.x", "format": "FILE_FORMAT_CSV"}, "next_path is for files of format json"),
    ({"next_parameter": "x"}, "next_parameter needs a next_path"),
    ({"since_parameter": "x"}, "since_parameter needs a since_path"),
]


async def test_what_cannot_be_an_endpoint_is_refused(tenant: Tenant, web: Endpoints) -> None:
    web.answers["/a"] = orjson.dumps(records(1))
    for change, says in BAD:
        files = {**web.files("/a")["files"], **change}
        request = ParseDict({"source": "a", "files": files}, pb.CreateSourceRequest())
        failure = await refused(tenant.stub(SourcesStub).CreateSource(request))
        assert failure.code in (Code.INVALID_VALUE, Code.FAILED_PRECONDITION)
        assert says in failure.detail
    assert web.asked == []


async def test_only_public_endpoints_are_polled_and_those_by_tls(home: Path, web: Endpoints) -> None:
    async with house(home, "data") as running:
        stub = Tenant(running).stub(SourcesStub)
        for pattern in (f"{web.url}/a", "https://127.0.0.1/a", "https://169.254.169.254/a", "http://8.8.8.8/a"):
            files = {"pattern": pattern, "format": "FILE_FORMAT_JSON"}
            call = stub.PreviewSource(ParseDict({"files": files}, pb.PreviewSourceRequest()))
            assert (await refused(call)).code is Code.EGRESS_DENIED
    assert web.asked == []
