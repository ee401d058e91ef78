"""Bad input, limits, permissions and restarts at the doors of sources, uploads, rules and extractions."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict

from aimass.v1 import extractions_pb2, rules_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1 import uploads_pb2 as up
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code, Failure
from tests.data import places
from tests.data.extracting import FLIGHTS
from tests.support.house import House, house
from tests.support.refused import refused

SQL = pb.SqlSource(url="sqlite:///flights.db", table="flights", cursor="id")
CSV = pb.FilesSource(pattern="a.csv", format=pb.FILE_FORMAT_CSV)
DEFINITION = ParseDict(FLIGHTS, rules_pb2.RuleDefinition())
NOTHING = hashlib.sha256(b"").hexdigest()


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.flights(home)
    places.write(home, "a.csv", "n,m\n1,2\n")
    async with house(home, "data") as running:
        yield running


@pytest.fixture
def sources(running: House) -> Any:
    return running.stub(SourcesStub, "data")


@pytest.fixture
async def rules(running: House, sources: Any) -> Any:
    await sources.CreateSource(pb.CreateSourceRequest(source="flights", sql=SQL))
    return running.stub(RulesStub, "data")


CALLS: list[tuple[Any, str, Any, str]] = [
    (SourcesStub, "CreateSource", pb.CreateSourceRequest(source="a", sql=SQL), "sources.create"),
    (SourcesStub, "GetSource", pb.GetSourceRequest(source="a"), "sources.get"),
    (SourcesStub, "ListSources", pb.ListSourcesRequest(), "sources.list"),
    (SourcesStub, "UpdateSource", pb.UpdateSourceRequest(source="a", description="x"), "sources.update"),
    (SourcesStub, "DeleteSource", pb.DeleteSourceRequest(source="a"), "sources.delete"),
    (SourcesStub, "UndeleteSource", pb.UndeleteSourceRequest(source="a"), "sources.delete"),
    (SourcesStub, "PreviewSource", pb.PreviewSourceRequest(sql=SQL), "sources.preview"),
    (SourcesStub, "CreateSourceUpload", up.CreateUploadRequest(), "sources.upload"),
    (RulesStub, "CreateRule", rules_pb2.CreateRuleRequest(rule="r", source="a", definition=DEFINITION), "rules.create"),
    (RulesStub, "GetRule", rules_pb2.GetRuleRequest(rule="r"), "rules.get"),
    (RulesStub, "DiscoverRules", rules_pb2.DiscoverRulesRequest(source="a"), "rules.discover"),
    (RulesStub, "DiscoverJoins", rules_pb2.DiscoverJoinsRequest(sources=["a"]), "rules.discover"),
    (RulesStub, "DeleteRule", rules_pb2.DeleteRuleRequest(rule="r"), "rules.delete"),
    (ExtractionsStub, "GetExtraction", extractions_pb2.GetExtractionRequest(extraction="e"), "extractions.get"),
    (ExtractionsStub, "RunExtraction", extractions_pb2.RunExtractionRequest(rule="r"), "extractions.run"),
]


async def test_each_call_needs_its_permission_and_no_other(running: House) -> None:
    every = {permission for *_, permission in CALLS}
    for kind, method, request, permission in CALLS:
        without = running.stub(kind, "data", *(every - {permission}), if_match="*")
        assert (await refused(getattr(without, method)(request))).code is Code.FORBIDDEN, method
        try:
            await getattr(running.stub(kind, "data", permission, if_match="*"), method)(request)
        except Failure as failure:
            assert failure.code is Code.NOT_FOUND, method


@pytest.mark.parametrize("name", ["", "A", "1a", "a b", "a/b", "..", "a" * 64, "\u00e9", "a\n"])
async def test_a_name_that_is_no_name_is_refused(running: House, sources: Any, name: str) -> None:
    rules = running.stub(RulesStub, "data")
    for call in (
        sources.CreateSource(pb.CreateSourceRequest(source=name, sql=SQL)),
        sources.GetSource(pb.GetSourceRequest(source=name)),
        rules.CreateRule(rules_pb2.CreateRuleRequest(rule=name, source="a", definition=DEFINITION)),
        rules.CreateRule(rules_pb2.CreateRuleRequest(rule="a", source=name, definition=DEFINITION)),
    ):
        assert (await refused(call)).code in (Code.INVALID_NAME, Code.INVALID_VALUE)


@pytest.mark.parametrize(
    "described",
    [
        {"sql": pb.SqlSource(url="sqlite:///" + "a" * 1024, table="t", cursor="c")},
        {"sql": pb.SqlSource(url="sqlite:///a.db", cursor="c")},
        {"sql": pb.SqlSource(url="sqlite:///a.db", table="t", cursor="c" * 129)},
        {"files": pb.FilesSource(pattern="a" * 1025, format=pb.FILE_FORMAT_CSV)},
        {"files": pb.FilesSource(pattern="a.csv", format=pb.FILE_FORMAT_CSV, delimiter=";;")},
        {"files": pb.FilesSource(pattern="a.csv", format=pb.FILE_FORMAT_CSV, delimiter='"')},
        {"files": pb.FilesSource(pattern="a.csv", format=pb.FILE_FORMAT_CSV, null_values=["x"] * 21)},
        {"files": pb.FilesSource(format=pb.FILE_FORMAT_CSV)},
        {"files": pb.FilesSource(pattern="a.csv")},
        {"sql": SQL, "description": "x" * 1001},
        {},
    ],
)
async def test_a_description_that_cannot_be_is_refused_by_every_call(sources: Any, described: dict[str, Any]) -> None:
    failure = await refused(sources.CreateSource(pb.CreateSourceRequest(source="a", **described)))
    assert failure.code is Code.INVALID_VALUE
    described = {key: value for key, value in described.items() if key != "description"}
    if described and described != {"sql": SQL}:
        assert (await refused(sources.PreviewSource(pb.PreviewSourceRequest(**described)))).code is Code.INVALID_VALUE
    assert not (await sources.ListSources(pb.ListSourcesRequest(show_deleted=True))).sources


async def test_a_change_needs_an_etag_and_any_will_do_for_who_does_not_care(running: House, sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", description="old", sql=SQL))
    request = pb.UpdateSourceRequest(source="a", update_mask=FieldMask(paths=["description"]))
    assert (await refused(sources.UpdateSource(request))).code is Code.ETAG_REQUIRED
    assert (await refused(sources.DeleteSource(pb.DeleteSourceRequest(source="a")))).code is Code.ETAG_REQUIRED

    changed = await running.stub(SourcesStub, "data", if_match="*").UpdateSource(request)
    assert (changed.description, changed.sql) == ("", SQL)


async def test_an_update_of_a_source_that_is_not_there_is_not_found(running: House) -> None:
    seen = running.stub(SourcesStub, "data", if_match="*")
    for call in (
        seen.UpdateSource(pb.UpdateSourceRequest(source="a", description="x")),
        seen.DeleteSource(pb.DeleteSourceRequest(source="a")),
        seen.UndeleteSource(pb.UndeleteSourceRequest(source="a")),
    ):
        failure = await refused(call)
        assert (failure.code, failure.detail) == (Code.NOT_FOUND, "there is no source a")


async def test_a_kind_of_source_may_become_another(running: House, sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", description="kept", sql=SQL))
    changed = await running.stub(SourcesStub, "data", if_match="1").UpdateSource(
        pb.UpdateSourceRequest(source="a", files=CSV)
    )
    assert (changed.WhichOneof("kind"), changed.files.pattern, changed.description) == ("files", "a.csv", "kept")


@pytest.mark.parametrize(("size", "token"), [(-1, ""), (0, "no token"), (10, "e30"), (10, "bnVsbA")])
async def test_a_page_that_cannot_be_is_refused(running: House, sources: Any, size: int, token: str) -> None:
    page = {"page_size": size, "page_token": token}
    for call in (
        sources.ListSources(pb.ListSourcesRequest(**page)),  # type: ignore[arg-type]
        running.stub(RulesStub, "data").ListRules(rules_pb2.ListRulesRequest(**page)),  # type: ignore[arg-type]
        running.stub(ExtractionsStub, "data").ListExtractions(
            extractions_pb2.ListExtractionsRequest(**page)  # type: ignore[arg-type]
        ),
    ):
        assert (await refused(call)).code is Code.INVALID_VALUE


@pytest.mark.parametrize("records", [-1, 101])
async def test_a_preview_has_bounds(sources: Any, records: int) -> None:
    failure = await refused(sources.PreviewSource(pb.PreviewSourceRequest(files=CSV, records=records)))
    assert (failure.code, failure.detail) == (Code.INVALID_VALUE, "records must be between 1 and 100")


async def test_a_rule_of_one_column_more_than_there_may_be_is_refused(rules: Any) -> None:
    many = rules_pb2.RuleDefinition()
    for i in range(501):
        many.file.columns.add(name=f"c{i}", type=1)
    request = rules_pb2.CreateRuleRequest(rule="r", source="flights", definition=many)
    assert (await refused(rules.CreateRule(request))).code is Code.INVALID_VALUE


@pytest.mark.parametrize("records", [-1, 10_001])
async def test_a_test_of_a_rule_has_bounds(rules: Any, records: int) -> None:
    await rules.CreateRule(rules_pb2.CreateRuleRequest(rule="r", source="flights", definition=DEFINITION))
    failure = await refused(rules.TestRule(rules_pb2.TestRuleRequest(rule="r", records=records)))
    assert (failure.code, failure.detail) == (Code.INVALID_VALUE, "records must be between 1 and 10000")


async def test_an_etag_of_an_activation_is_said_in_the_request_or_beside_it(running: House, rules: Any) -> None:
    await rules.CreateRule(rules_pb2.CreateRuleRequest(rule="r", source="flights", definition=DEFINITION))
    stale = running.stub(RulesStub, "data", if_match="9")
    request = rules_pb2.ActivateRuleRequest(rule="r", version=1)
    assert (await refused(stale.ActivateRule(request))).code is Code.ETAG_MISMATCH
    request.etag = "1"
    assert (await stale.ActivateRule(request)).active_version == 1


async def test_a_version_that_is_not_there_is_said_by_name(rules: Any) -> None:
    await rules.CreateRule(rules_pb2.CreateRuleRequest(rule="r", source="flights", definition=DEFINITION))
    for version in (-1, 2):
        for call in (
            rules.GetRule(rules_pb2.GetRuleRequest(rule="r", version=version)),
            rules.TestRule(rules_pb2.TestRuleRequest(rule="r", version=version)),
            rules.ActivateRule(rules_pb2.ActivateRuleRequest(rule="r", version=version)),
        ):
            failure = await refused(call)
            assert (failure.code, failure.detail) == (Code.UNKNOWN_VERSION, f"r has no version {version}")


async def test_a_test_shows_no_more_than_twenty_rows_and_refusals(running: House, sources: Any, home: Path) -> None:
    places.write(home, "a.csv", "n\n" + "1\nx\n" * 30)
    await sources.CreateSource(pb.CreateSourceRequest(source="a", files=CSV))
    definition = ParseDict({"file": {"columns": [{"name": "n", "type": 2}]}}, rules_pb2.RuleDefinition())
    rules = running.stub(RulesStub, "data")
    await rules.CreateRule(rules_pb2.CreateRuleRequest(rule="r", source="a", definition=definition))
    trial = await rules.TestRule(rules_pb2.TestRuleRequest(rule="r"))

    assert (trial.tried, trial.accepted, len(trial.rows), len(trial.refused)) == (60, 30, 20, 20)


async def test_an_upload_goes_on_after_a_restart(home: Path) -> None:
    data = b"n,m\n1,2\n"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    async with house(home, "data") as running:
        stub = running.stub(SourcesStub, "data")
        upload = (await stub.CreateSourceUpload(up.CreateUploadRequest())).upload
        await stub.WriteSourceUpload(up.WriteUploadRequest(upload=upload, body=HttpBody(data=data[:3])))
    async with house(home, "data") as running:
        stub = running.stub(SourcesStub, "data")
        size = (await stub.GetSourceUpload(up.GetUploadRequest(upload=upload))).committed_size
        rest = up.WriteUploadRequest(upload=upload, offset=size, body=HttpBody(data=data[size:]))
        await stub.WriteSourceUpload(rest)
        await stub.CommitSourceUpload(up.CommitUploadRequest(upload=upload, digest=digest))
        late = await refused(stub.WriteSourceUpload(rest))
        files = pb.FilesSource(upload_digest=digest, format=pb.FILE_FORMAT_CSV)
        assert len((await stub.PreviewSource(pb.PreviewSourceRequest(files=files))).records) == 1
    assert (size, late.code) == (3, Code.FAILED_PRECONDITION)


async def test_an_upload_of_nothing_is_a_source_of_nothing(sources: Any) -> None:
    upload = (await sources.CreateSourceUpload(up.CreateUploadRequest())).upload
    await sources.CommitSourceUpload(up.CommitUploadRequest(upload=upload, digest=f"sha256:{NOTHING}"))
    files = pb.FilesSource(upload_digest=f"sha256:{NOTHING}", format=pb.FILE_FORMAT_TEXT)
    shown = await sources.PreviewSource(pb.PreviewSourceRequest(files=files))
    assert (len(shown.records), len(shown.schema.columns)) == (0, 0)


@pytest.mark.parametrize("offset", [-1, 5, 2**40])
async def test_a_chunk_elsewhere_is_refused(sources: Any, offset: int) -> None:
    upload = (await sources.CreateSourceUpload(up.CreateUploadRequest())).upload
    request = up.WriteUploadRequest(upload=upload, offset=offset, body=HttpBody(data=b"x"))
    assert (await refused(sources.WriteSourceUpload(request))).code in (
        Code.WRONG_OFFSET,
        Code.INVALID_VALUE,
        Code.LIMIT_EXCEEDED,
    )
    assert (await sources.GetSourceUpload(up.GetUploadRequest(upload=upload))).committed_size == 0


@pytest.mark.parametrize("upload", ["", "x", "../a", "019a0000-0000-7000-8000-000000000000"])
async def test_an_upload_that_is_not_there_is_refused(sources: Any, upload: str) -> None:
    for call in (
        sources.GetSourceUpload(up.GetUploadRequest(upload=upload)),
        sources.WriteSourceUpload(up.WriteUploadRequest(upload=upload, body=HttpBody(data=b"x"))),
        sources.CommitSourceUpload(up.CommitUploadRequest(upload=upload, digest=f"sha256:{NOTHING}")),
    ):
        assert (await refused(call)).code in (Code.NOT_FOUND, Code.INVALID_VALUE)
