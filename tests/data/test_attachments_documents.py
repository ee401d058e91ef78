"""Documents whose bytes a rule keeps: by digest, with the data set, wherever their files go."""

import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from aimass.v1 import attachments_pb2 as pb
from aimass.v1 import datasets_pb2, rules_pb2, sources_pb2, uploads_pb2
from aimass.v1.attachments_pb2_grpc import AttachmentsStub
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.extractions_pb2 import RunExtractionRequest
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.auth import Scope
from services.kit.errors import Code
from tests.data.extracting import Tenant
from tests.data.reading.test_media import png
from tests.data.test_attachments import attachments, content
from tests.support.downloads import digest
from tests.support.house import House, house
from tests.support.refused import refused

PICTURE, WORDS = png(5, 4), "ä" * 3000
FOLDER = {"files": {"pattern": "pictures/*", "format": "FILE_FORMAT_DOCUMENT"}}
COLUMNS = [
    {"name": "place", "from": "$.path", "type": "COLUMN_TYPE_STRING"},
    {"name": "mark", "from": "$.digest", "type": "COLUMN_TYPE_STRING"},
    {"name": "width", "from": "$.width", "type": "COLUMN_TYPE_INT64"},
]
RULE: dict[str, Any] = {"json": {"columns": COLUMNS}, "documents": "mark"}


@pytest.fixture
def folder(home: Path) -> Path:
    folder = home / "import" / "acme" / "pictures"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(PICTURE)
    (folder / "b.txt").write_text(WORDS)
    (folder / "c.png").write_bytes(PICTURE)
    return folder


@pytest.fixture
async def running(home: Path, folder: Path) -> AsyncIterator[House]:
    async with house(home, "data", AIMASS_DATA_DOWNLOAD_MIB="1") as running:
        yield running


@pytest.fixture
def tenant(running: House) -> Tenant:
    return Tenant(running)


async def test_documents_are_kept_when_their_files_are_gone(running: House, tenant: Tenant, folder: Path) -> None:
    await tenant.rule("photos", FOLDER, RULE)
    assert (await tenant.extract("photos")).rows_accepted == 3
    for path in folder.iterdir():
        path.unlink()
    asked = running.stub(AttachmentsStub, "data")
    rows = await tenant.rows("photos")
    assert [await content(asked, "photos", row["mark"]) for row in rows] == [PICTURE, WORDS.encode(), PICTURE]
    found = {one.origin: one for one in await attachments(running)}
    assert {path: one.digest for path, one in found.items()} == {row["place"]: row["mark"] for row in rows}
    assert {(one.column, one.digest_column) for one in found.values()} == {("place", "mark")}
    shown = await asked.PreviewAttachment(pb.PreviewAttachmentRequest(data_set="photos", digest=digest(PICTURE)))
    assert (shown.width, shown.height, shown.media_type, list(shown.columns)) == (5, 4, "image/png", ["mark"])
    shown = await asked.PreviewAttachment(pb.PreviewAttachmentRequest(data_set="photos", digest=digest(WORDS.encode())))
    assert (shown.text, shown.HasField("width")) == (WORDS, False)


async def test_an_image_that_lies_about_its_size_is_shown_without_one(
    running: House, tenant: Tenant, folder: Path
) -> None:
    (folder / "a.png").write_bytes(lie := PICTURE[:16] + b"\xff" * 8 + PICTURE[24:])
    await tenant.rule("photos", FOLDER, RULE)
    await tenant.extract("photos")
    request = pb.PreviewAttachmentRequest(data_set="photos", digest=digest(lie))
    shown = await running.stub(AttachmentsStub, "data").PreviewAttachment(request)
    assert (shown.media_type, shown.HasField("width")) == ("image/png", False)


async def streamed(asked: Any, **wanted: Any) -> list[tuple[str, bytes]]:
    """The files of an archive, as any program for such would read it."""
    request = pb.StreamAttachmentsRequest(data_set="photos", **wanted)
    data = b"".join([piece.data async for piece in asked.StreamAttachments(request)])
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        found = [(member.name, archive.extractfile(member)) for member in archive]
        return [(f"sha256:{name}", file.read() if file else b"") for name, file in found]


async def test_files_come_in_one_stream(running: House, tenant: Tenant, folder: Path) -> None:
    (folder / "large").write_bytes(bytes(700_001))
    await tenant.rule("photos", FOLDER, RULE)
    await tenant.extract("photos")
    asked = running.stub(AttachmentsStub, "data")
    contents = {digest(data): data for data in (PICTURE, WORDS.encode(), bytes(700_001))}
    first, second, third = sorted(contents)
    assert await streamed(asked) == sorted(contents.items())
    assert [name for name, _ in await streamed(asked, after=first)] == [second, third]
    assert [name for name, _ in await streamed(asked, max_files=2)] == [first, second]
    assert await streamed(asked, digests=[third, first]) == [(third, contents[third]), (first, contents[first])]
    failure = await refused(streamed(asked, digests=[first, digest(b"other")]))
    assert (failure.code, digest(b"other") in failure.detail) == (Code.NOT_FOUND, True)
    assert (await refused(streamed(asked, max_files=-1))).code is Code.INVALID_VALUE
    assert (await refused(streamed(asked, digests=["x"]))).code is Code.INVALID_VALUE
    other = running.stub(AttachmentsStub, "data", tenant="globex")
    assert (await refused(streamed(other))).code is Code.NOT_FOUND


@pytest.mark.parametrize("column", ["place", "mark"])
async def test_documents_of_masked_columns_are_for_who_sees_them(running: House, tenant: Tenant, column: str) -> None:
    await tenant.rule("photos", FOLDER, RULE)
    await tenant.extract("photos")
    reader = ("data_sets.read", "data_sets.get")
    reading = running.stub(AttachmentsStub, "data", *reader)
    assert await content(reading, "photos", digest(PICTURE)) == PICTURE
    etag = (await tenant.stub(DataSetsStub).GetDataSet(datasets_pb2.GetDataSetRequest(data_set="photos"))).etag
    mask = datasets_pb2.MaskColumnsRequest(data_set="photos", columns=[column])
    await tenant.stub(DataSetsStub, if_match=f'"{etag}"').MaskColumns(mask)
    assert await attachments(running, *reader) == []
    assert await streamed(reading) == []
    assert (await refused(streamed(reading, digests=[digest(PICTURE)]))).code is Code.NOT_FOUND
    assert (await refused(content(reading, "photos", digest(PICTURE)))).code is Code.NOT_FOUND


async def test_what_one_run_has_no_room_for_is_for_the_next_one(tenant: Tenant, folder: Path) -> None:
    for name in ("d", "e", "f"):
        (folder / name).write_bytes(name.encode() * 600_000)
    await tenant.rule("photos", FOLDER, RULE)
    counts = []
    for _ in range(4):
        done = await tenant.ended((await tenant.begin("photos")).operation)
        counts.append(done.message.partition(";")[0])
        if len(counts) == 1:
            assert "pictures/e and others are for the next one" in done.message
    assert counts == [
        "4 rows of 4 records, 0 quarantined",
        "1 rows of 1 records, 0 quarantined",
        "1 rows of 1 records, 0 quarantined",
        "nothing new",
    ]
    rows = await tenant.rows("photos")
    assert [row["place"] for row in rows] == [f"pictures/{name}" for name in ("a.png", "b.txt", "c.png", "d", "e", "f")]


async def test_an_upload_is_kept_as_it_is(running: House, tenant: Tenant) -> None:
    sources = tenant.stub(SourcesStub)
    upload = (await sources.CreateSourceUpload(uploads_pb2.CreateUploadRequest())).upload
    request = uploads_pb2.WriteUploadRequest(upload=upload)
    request.body.data = PICTURE
    await sources.WriteSourceUpload(request)
    await sources.CommitSourceUpload(uploads_pb2.CommitUploadRequest(upload=upload, digest=digest(PICTURE)))
    files = {"upload_digest": digest(PICTURE), "format": "FILE_FORMAT_DOCUMENT"}
    await tenant.rule("photos", {"files": files}, RULE)
    await tenant.extract("photos")
    assert await content(running.stub(AttachmentsStub, "data"), "photos", digest(PICTURE)) == PICTURE


async def test_kept_files_are_bytes_that_are_kept(running: House, tenant: Tenant) -> None:
    await tenant.rule("photos", FOLDER, RULE)
    await tenant.extract("photos")
    attached: Any = running.runtime.apps["data"].rpc["aimass.v1.Attachments"]
    kept = await attached._attachments._store.kept()
    assert kept == {Scope("acme"): len(PICTURE) + len(WORDS.encode())}, "each file is counted once"


@pytest.mark.parametrize(
    ("source", "rule", "said"),
    [
        (
            "docs",
            {"json": {"columns": COLUMNS}, "documents": "place"},
            "documents must be a column of type string from",
        ),
        ("docs", {"json": {"columns": COLUMNS}, "documents": "none"}, "documents must be a column of type string from"),
        ("lines", RULE, "documents needs a source of files of format document"),
        (
            "lines",
            {"regex": {"pattern": "(?P<mark>.*)", "columns": [COLUMNS[1]]}, "documents": "mark"},
            "for json rules",
        ),
    ],
)
async def test_what_keeps_no_documents_is_refused(
    tenant: Tenant, folder: Path, source: str, rule: dict[str, Any], said: str
) -> None:
    (folder / "x.jsonl").write_text("{}\n")
    kinds = {"docs": FOLDER, "lines": {"files": {"pattern": "pictures/x.jsonl", "format": "FILE_FORMAT_JSON_LINES"}}}
    request = ParseDict({"source": source, **kinds[source]}, sources_pb2.CreateSourceRequest())
    await tenant.stub(SourcesStub).CreateSource(request)
    definition = ParseDict(rule, rules_pb2.RuleDefinition())
    asked = rules_pb2.CreateRuleRequest(rule="photos", source=source, definition=definition)
    failure = await refused(tenant.stub(RulesStub).CreateRule(asked))
    assert (failure.code, said in failure.detail) == (Code.INVALID_VALUE, True), failure.detail


async def test_documents_that_land_are_not_kept(tenant: Tenant) -> None:
    await tenant.rule("photos", {**FOLDER, "landed": True}, RULE)
    failure = await refused(tenant.begin("photos"))
    assert (failure.code, "documents are kept of sources" in failure.detail) == (Code.FAILED_PRECONDITION, True)


async def test_a_branch_has_the_documents_and_a_merge_brings_those_that_it_got(
    running: House, tenant: Tenant, folder: Path
) -> None:
    await tenant.rule("photos", FOLDER, RULE)
    await tenant.extract("photos")
    stub, asked = tenant.stub(DataSetsStub), running.stub(AttachmentsStub, "data")
    await stub.BranchDataSet(datasets_pb2.BranchDataSetRequest(data_set="photos", branch="trial"))
    (folder / "d.png").write_bytes(other := png(9, 9))
    begun = await tenant.stub(ExtractionsStub).RunExtraction(RunExtractionRequest(rule="photos", branch="trial"))
    await tenant.ended(begun.operation)

    assert [await content(asked, "trial", digest(kept)) for kept in (PICTURE, other)] == [PICTURE, other]
    assert (await refused(content(asked, "photos", digest(other)))).code is Code.NOT_FOUND
    await stub.MergeDataSetBranch(datasets_pb2.MergeDataSetBranchRequest(data_set="photos", branch="trial"))
    assert await content(asked, "photos", digest(other)) == other
    assert {one.origin.rpartition("/")[2] for one in await attachments(running)} == {"a.png", "b.txt", "c.png", "d.png"}
