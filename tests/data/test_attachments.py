"""Rules that download: what a column's URLs lead to is kept by digest, whatever the servers do, and rows stay."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from aimass.v1 import attachments_pb2 as pb
from aimass.v1 import datasets_pb2, extractions_pb2, operations_pb2, repairs_pb2, rules_pb2
from aimass.v1.attachments_pb2_grpc import AttachmentsStub
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.repairs_pb2_grpc import RepairsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from services.kit.errors import Code
from tests.data.extracting import Tenant
from tests.data.reading.test_media import png
from tests.data.rule_sets import wanted
from tests.support import buckets
from tests.support.downloads import COLUMNS, SOURCE, Files, after, chunked, digest, in_halves, listed, rule, said
from tests.support.house import House, house, until
from tests.support.refused import refused

PNG, LIMIT = png(3, 2), 300_000
READER = ("data_sets.read", "data_sets.get")


@pytest.fixture
def web() -> Iterator[Files]:
    with Files() as made:
        yield made


@pytest.fixture
async def running(home: Path, web: Files) -> AsyncIterator[House]:
    async with house(home, "data", AIMASS_EGRESS_ALLOW=web.host) as running:
        yield running


@pytest.fixture
def tenant(running: House) -> Tenant:
    return Tenant(running)


def stub(running: House, *permissions: str, **more: str) -> Any:
    return running.stub(AttachmentsStub, "data", *permissions, **more)


async def attachments(running: House, *permissions: str, **wanted: Any) -> list[Any]:
    asked = stub(running, *permissions)
    found, token = [], ""
    while True:
        request = pb.ListAttachmentsRequest(data_set="photos", page_size=3, page_token=token, **wanted)
        page = await asked.ListAttachments(request)
        found += page.attachments
        if not (token := page.next_page_token):
            return found


async def content(asked: Any, data_set: str, digest: str, offset: int = 0) -> bytes:
    request = pb.DownloadAttachmentRequest(data_set=data_set, digest=digest, offset=offset)
    return b"".join([piece.data async for piece in asked.DownloadAttachment(request)])


def endless(handler: Any) -> None:
    buckets.endless(handler)


def reset(handler: Any) -> None:
    buckets.reset(handler)


async def test_a_server_that_has_no_files_any_more_is_no_drift_of_the_rule(
    tenant: Tenant, home: Path, web: Files
) -> None:
    web.files["/there"] = PNG
    listed(home, [web.url("/there")] * 300)
    await tenant.rule("photos", SOURCE, rule())
    await tenant.extract("photos")
    listed(home, [web.url("/gone")] * 100, first=301)
    run = await tenant.extract("photos")
    health = await tenant.stub(RepairsStub).GetRuleHealth(repairs_pb2.GetRuleHealthRequest(rule="photos"))

    assert (run.rows_accepted, (await tenant.rows("photos"))[-1]["photo_digest"]) == (100, None)
    assert ([one.column for one in health.columns], health.drifted) == (["id", "photo"], False)


async def test_rows_say_what_became_of_their_files_whatever_the_servers_do(
    running: House, tenant: Tenant, home: Path, web: Files
) -> None:
    with Files() as inside:
        inside.files["/secret.png"] = PNG
        large = png(9, 9) + bytes(100_000)
        web.files |= {
            "/a.png": PNG,
            "/moved": said(302, location="/a.png"),
            "/inside": said(302, location=inside.url("/secret.png")),
            "/metadata": said(302, location="http://169.254.169.254/latest/"),
            "/circle": said(302, location="/circle"),
            "/words.png": b"no picture at all",
            "/huge": endless,
            "/endless": chunked,
            "/busy": after(2, said(503, retry_after="0"), PNG),
            "/reset": after(1, reset, PNG),
            "/halves": in_halves(large, '"one"'),
            "/other": in_halves(large, '"one"', changes=PNG),
            "/less": said(200, PNG, content_length=str(len(PNG) + 50)),
            "/away": said(500),
            "/packed": said(200, PNG, content_encoding="gzip"),
            "/empty": said(200, content_length="0"),
        }
        kept = {"/a.png": PNG, "/moved": PNG, "/busy": PNG, "/reset": PNG, "/halves": large, "/other": PNG}
        reasons = {
            "/inside": "it is at an address that may not be reached",
            "/metadata": "it is at an address that may not be reached",
            "/circle": "the server redirects more than 5 times",
            "/words.png": "it is text/plain, which is not wanted",
            "/huge": f"it is larger than {LIMIT} bytes",
            "/endless": f"it is larger than {LIMIT} bytes",
            "/packed": "the server packs what is asked for as it is",
            "/empty": "it is empty",
            "/none": "the server answers 404",
        }
        lost = {"/less": "the server cannot be reached, or breaks off", "/away": "the server answers 500"}
        paths = [*kept, *reasons, *lost]
        others = ["", "http://10.0.0.1/x.png", "no url", "ftp://127.0.0.1/x", web.url("/a.png")]
        listed(home, [*map(web.url, paths), *others])
        await tenant.rule("photos", SOURCE, rule(max_bytes=LIMIT, media_types=["image/*"]))
        done = await tenant.ended((await tenant.begin("photos")).operation)
        assert "14 of 20 files of photo were not fetched" in done.message
        assert not inside.asked, "a server that nobody allows was asked"

    rows = {row["photo"] or "": row for row in await tenant.rows("photos")}
    for path, data in kept.items():
        row = rows[web.url(path)]
        assert (row["photo_state"], row["photo_digest"], row["photo_bytes"]) == ("kept", digest(data), len(data)), path
        assert (row["photo_media_type"], row["photo_reason"]) == ("image/png", None)
    for states, expected in (("refused", reasons), ("failed", lost)):
        said_of = {path: (rows[web.url(path)]["photo_state"], rows[web.url(path)]["photo_reason"]) for path in expected}
        assert said_of == {path: (states, reason) for path, reason in expected.items()}
        assert {rows[web.url(path)]["photo_digest"] for path in expected} == {None}
    assert rows["http://10.0.0.1/x.png"]["photo_reason"] == "it is at an address that may not be reached"
    assert {rows[url]["photo_reason"] for url in others[2:4]} == {"it is no URL that can be fetched"}
    assert {rows[""][f"photo_{name}"] for name in ("state", "reason", "digest", "bytes", "media_type")} == {None}
    assert web.asked["/a.png"] == 2, "once for itself, however often it is named, and once redirected to"
    assert (web.asked["/away"], web.asked["/huge"]) == (3, 1)
    assert not list(home.rglob("attachments-*")), "what was on its way is left"

    found = await attachments(running)
    assert len(found) == 20
    failed = await attachments(running, state=pb.ATTACHMENT_STATE_FAILED)
    assert {one.origin for one in failed} == set(map(web.url, lost))
    asked = stub(running)
    assert await content(asked, "photos", digest(large)) == large
    assert await content(asked, "photos", digest(large), 100_000) == large[100_000:]
    request = pb.PreviewAttachmentRequest(data_set="photos", digest=digest(PNG))
    shown = await asked.PreviewAttachment(request)
    assert (shown.width, shown.height, shown.bytes, list(shown.columns)) == (3, 2, len(PNG), ["photo_digest"])
    for other in (stub(running, tenant="globex"), stub(running, project="other")):
        assert (await refused(other.PreviewAttachment(request))).code is Code.NOT_FOUND
        assert (await refused(content(other, "photos", digest(PNG)))).code is Code.NOT_FOUND


@pytest.mark.parametrize("column", ["photo", "Photo_digest"])
async def test_files_of_masked_columns_are_for_who_sees_them(
    running: House, tenant: Tenant, home: Path, web: Files, column: str
) -> None:
    web.files["/a.txt"] = b"words of somebody"
    listed(home, [web.url("/a.txt")])
    await tenant.rule("photos", SOURCE, rule())
    await tenant.extract("photos")
    wanted = digest(b"words of somebody")
    reading, request = stub(running, *READER), pb.PreviewAttachmentRequest(data_set="photos", digest=wanted)
    assert (await reading.PreviewAttachment(request)).text == "words of somebody"
    mask = datasets_pb2.MaskColumnsRequest(data_set="photos", columns=[column])
    etag = (await tenant.stub(DataSetsStub).GetDataSet(datasets_pb2.GetDataSetRequest(data_set="photos"))).etag
    await tenant.stub(DataSetsStub, if_match=f'"{etag}"').MaskColumns(mask)

    assert (await refused(reading.PreviewAttachment(request))).code is Code.NOT_FOUND
    assert (await refused(content(reading, "photos", wanted))).code is Code.NOT_FOUND
    assert await attachments(running, *READER) == []
    assert await content(stub(running), "photos", wanted) == b"words of somebody"
    assert len(await attachments(running)) == 1


async def test_a_mask_of_a_column_with_any_letters_hides_its_files(
    running: House, tenant: Tenant, home: Path, web: Files
) -> None:
    web.files["/a"] = b"one"
    listed(home, [web.url("/a")])
    columns = [COLUMNS[0], {"name": "PHÓTO", "from": "photo", "type": "COLUMN_TYPE_STRING"}]
    await tenant.rule("photos", SOURCE, {"file": {"columns": columns}, "downloads": [{"column": "PHÓTO"}]})
    await tenant.extract("photos")
    etag = (await tenant.stub(DataSetsStub).GetDataSet(datasets_pb2.GetDataSetRequest(data_set="photos"))).etag
    mask = datasets_pb2.MaskColumnsRequest(data_set="photos", columns=["PHÓTO"])
    await tenant.stub(DataSetsStub, if_match=f'"{etag}"').MaskColumns(mask)

    async def streamed(asked: Any, *digests: str) -> bytes:
        request = pb.StreamAttachmentsRequest(data_set="photos", digests=digests)
        return b"".join([piece.data async for piece in asked.StreamAttachments(request)])

    assert b"one" in await streamed(stub(running))
    assert not (await streamed(stub(running, *READER))).strip(b"\0")
    assert (await refused(streamed(stub(running, *READER), digest(b"one")))).code is Code.NOT_FOUND
    assert await attachments(running, *READER) == []


async def test_a_later_run_tries_again_and_files_of_before_stay(
    running: House, tenant: Tenant, home: Path, web: Files
) -> None:
    web.files["/a"] = b"one"
    listed(home, [web.url("/a"), web.url("/b")])
    await tenant.rule("photos", SOURCE, rule(tries=1))
    await tenant.extract("photos")
    web.files |= {"/a": b"two", "/b": b"there now"}
    listed(home, [web.url("/a"), web.url("/b")], 3)
    await tenant.extract("photos")
    rows = await tenant.rows("photos")
    assert [row["photo_digest"] for row in rows] == [digest(b"one"), None, digest(b"two"), digest(b"there now")]
    assert {one.digest for one in await attachments(running)} == {digest(b"two"), digest(b"there now")}
    assert await content(stub(running), "photos", digest(b"one")) == b"one"


async def test_a_run_that_finds_nothing_new_leaves_nothing(tenant: Tenant, home: Path, web: Files) -> None:
    def kept() -> set[Path]:
        return {path for path in (home / "blobs" / "acme").rglob("sha256/*/*") if path.is_file()}

    web.files["/a"] = b"one"
    listed(home, [web.url("/a")])
    await tenant.rule("photos", SOURCE, rule())
    await tenant.extract("photos")
    await until(lambda: not list(home.rglob("attachments-*")))
    before = kept()
    assert (await tenant.extract("photos")).records_read == 0
    await until(lambda: not list(home.rglob("attachments-*")))
    assert kept() == before
    assert len(before) == 1


async def again(tenant: Tenant, rule: str) -> Any:
    """Runs a rule over what landed."""
    request = extractions_pb2.RunExtractionRequest(rule=rule, origin=extractions_pb2.EXTRACTION_ORIGIN_WAREHOUSE)
    done = await tenant.ended((await tenant.stub(ExtractionsStub).RunExtraction(request)).operation)
    assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
    return extractions_pb2.Extraction.FromString(done.response.value)


async def test_what_landed_is_read_again_with_the_files_that_are_there_and_tries_the_others(
    tenant: Tenant, home: Path, web: Files
) -> None:
    web.files |= {"/a.png": PNG, "/words": b"no picture", "/away": said(500)}
    listed(home, [*map(web.url, web.files), web.url("/none")])
    await tenant.rule("photos", {**SOURCE, "landed": True}, rule(tries=1))
    await tenant.extract("photos")
    web.asked.clear()
    web.files |= {"/a.png": b"another by now", "/away": b"back"}
    first = await again(tenant, "photos")
    rows = await tenant.rows("photos", first.data_set_version)
    assert [row["photo_digest"] for row in rows] == [digest(PNG), digest(b"no picture"), digest(b"back"), None]
    assert web.asked == {"/away": 1, "/none": 1}
    web.asked.clear()
    assert (await again(tenant, "photos")).output_digest == first.output_digest
    assert web.asked == {"/none": 1}

    # What the rule does not want any more is not kept because it was.
    definition = ParseDict(rule(media_types=["image/*"]), rules_pb2.RuleDefinition())
    rules = tenant.stub(RulesStub)
    await rules.CreateRuleVersion(rules_pb2.CreateRuleVersionRequest(rule="photos", definition=definition))
    await rules.ActivateRule(rules_pb2.ActivateRuleRequest(rule="photos", version=2))
    third = await again(tenant, "photos")
    rows = await tenant.rows("photos", third.data_set_version)
    assert [row["photo_state"] for row in rows] == ["kept", "refused", "refused", "refused"]


async def test_a_file_that_its_store_has_lost_is_fetched_when_what_landed_is_read_again(
    tenant: Tenant, home: Path, web: Files
) -> None:
    web.files |= {"/a": b"one", "/b": b"two"}
    listed(home, [web.url("/a"), web.url("/b")])
    await tenant.rule("photos", {**SOURCE, "landed": True}, rule())
    await tenant.extract("photos")
    (lost,) = (home / "blobs" / "acme").rglob(digest(b"one").removeprefix("sha256:"))
    lost.unlink()
    await again(tenant, "photos")
    assert lost.exists()
    assert [await content(stub(tenant.house), "photos", digest(data)) for data in (b"one", b"two")] == [b"one", b"two"]


def table(folder: Path, urls: list[str]) -> None:
    with contextlib.closing(sqlite3.connect(folder / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE photos (id INTEGER PRIMARY KEY, photo TEXT)")
        shop.executemany("INSERT INTO photos (photo) VALUES (?)", [(url,) for url in urls])


def documents(folder: Path, urls: list[str]) -> None:
    photos = [{"photo": url} for url in urls]
    (folder / "shop.jsonl").write_text(json.dumps({"photos": photos}) + "\n")


EACH = [{"name": "photo", "from": "$.photos[*].photo", "type": "COLUMN_TYPE_STRING"}]
KINDS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "sql": (
        table,
        {"sql": {"url": "sqlite:///shop.db", "table": "photos", "cursor": "id"}},
        {"sql": {"sql": "SELECT id, photo FROM photos"}},
    ),
    "json": (
        documents,
        {"files": {"pattern": "shop.jsonl", "format": "FILE_FORMAT_JSON_LINES"}},
        {"json": {"columns": EACH}},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_rule_downloads(tenant: Tenant, home: Path, web: Files, kind: str) -> None:
    write, source, definition = KINDS[kind]
    web.files |= {"/a": b"one", "/b": b"two"}
    folder = home / "import" / "acme"
    folder.mkdir(parents=True)
    write(folder, [web.url("/a"), web.url("/b"), web.url("/a")])
    await tenant.rule("photos", source, definition | {"downloads": rule()["downloads"]})
    await tenant.extract("photos")
    rows = await tenant.rows("photos")
    assert [row["photo_digest"] for row in rows] == [digest(b"one"), digest(b"two"), digest(b"one")]
    assert web.asked == {"/a": 1, "/b": 1}


async def test_each_rule_of_a_set_has_the_files_of_its_rows(
    running: House, tenant: Tenant, home: Path, web: Files
) -> None:
    web.files |= {"/a": b"of one", "/b": b"of the other"}
    log = home / "import" / "acme" / "office.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"left {web.url('/a')}\nright {web.url('/b')}\n")
    columns = [{"name": "photo", "type": "COLUMN_TYPE_STRING"}]
    sides = [
        wanted(side, {"regex": {"pattern": f"{side} (?P<photo>.*)", "columns": columns}, **rule()} | {"file": None})
        for side in ("left", "right")
    ]
    await tenant.rule_set("office", {"files": {"pattern": "office.log", "format": "FILE_FORMAT_TEXT"}}, *sides)
    await tenant.extract_set("office")
    for side, data in (("left", b"of one"), ("right", b"of the other")):
        (row,) = await tenant.rows(side)
        assert row["photo_digest"] == digest(data)
        assert await content(stub(running), side, digest(data)) == data
    assert (await refused(content(stub(running), "left", digest(b"of the other")))).code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("downloads", "said"),
    [
        ([{"column": "id"}], "downloads.0.column must be a column of the rule of type string"),
        ([{"column": "none"}], "downloads.0.column must be a column of the rule of type string"),
        ([{"column": "photo"}, {"column": "photo"}], "downloads.1.column is there twice"),
        ([{"column": "photo", "max_bytes": 2**31}], "downloads.0.max_bytes must be between 1 and 1073741824"),
        ([{"column": "photo", "tries": 11}], "downloads.0.tries must be between 1 and 10"),
        ([{"column": "photo", "media_types": ["*/*"]}], "downloads.0.media_types must be like image/png or image/*"),
    ],
)
async def test_what_cannot_be_downloaded_is_refused(
    tenant: Tenant, home: Path, downloads: list[dict[str, Any]], said: str
) -> None:
    listed(home, [])
    await tenant.rule("photos", SOURCE, rule())
    definition = ParseDict({"file": {"columns": COLUMNS}, "downloads": downloads}, rules_pb2.RuleDefinition())
    request = rules_pb2.CreateRuleVersionRequest(rule="photos", definition=definition)
    failure = await refused(tenant.stub(RulesStub).CreateRuleVersion(request))
    assert (failure.code, failure.detail) == (Code.INVALID_VALUE, said)


async def test_a_rule_says_its_downloads_as_they_were_said(tenant: Tenant, home: Path) -> None:
    listed(home, [])
    said = rule(max_bytes=5, media_types=["image/*"], tries=2)
    await tenant.rule("photos", SOURCE, said)
    found = await tenant.stub(RulesStub).GetRule(rules_pb2.GetRuleRequest(rule="photos"))
    assert found.definition.downloads[0] == ParseDict(said["downloads"][0], rules_pb2.Download())
