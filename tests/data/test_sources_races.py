"""Sources, rules, uploads and extractions that many callers touch at a time."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Iterable
from pathlib import Path
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import ParseDict

from aimass.v1 import extractions_pb2, rules_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1 import uploads_pb2 as up
from aimass.v1.data_events_pb2 import SourceChanged
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code, Failure
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.support.house import House, house

SQL = pb.SqlSource(url="sqlite:///flights.db", table="flights", cursor="id")
DEFINITION = ParseDict(FLIGHTS, rules_pb2.RuleDefinition())
MANY = 6


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.flights(home)
    async with house(home, "data") as running:
        yield running


@pytest.fixture
def sources(running: House) -> Any:
    return running.stub(SourcesStub, "data")


async def together(calls: Iterable[Awaitable[Any]]) -> tuple[list[Any], list[Code]]:
    """What was answered, and the codes of what was refused."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert all(not isinstance(one, BaseException) or isinstance(one, Failure) for one in found), found
    return [one for one in found if not isinstance(one, Failure)], [
        one.code for one in found if isinstance(one, Failure)
    ]


async def test_a_name_is_taken_by_one_of_many(running: House, sources: Any) -> None:
    made, codes = await together(
        sources.CreateSource(pb.CreateSourceRequest(source="a", description=str(i), sql=SQL)) for i in range(MANY)
    )
    assert (len(made), set(codes)) == (1, {Code.ALREADY_EXISTS})
    assert await sources.GetSource(pb.GetSourceRequest(source="a")) == made[0]
    assert len(await running.heard(SourceChanged)) == 1


async def test_repeats_at_the_same_time_are_answered_alike(running: House) -> None:
    keyed = running.stub(SourcesStub, "data", idempotency_key="k")
    made, codes = await together(keyed.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL)) for _ in range(MANY))
    assert (len(made), codes) == (MANY, [])
    assert all(one == made[0] for one in made)


async def test_a_key_is_for_one_request(running: House) -> None:
    keyed = running.stub(SourcesStub, "data", idempotency_key="k")
    made, codes = await together(
        keyed.CreateSource(pb.CreateSourceRequest(source=name, sql=SQL)) for name in ("a", "b", "c")
    )
    assert (len(made), codes) == (1, [Code.KEY_REUSED] * 2)


async def test_of_updates_with_one_etag_one_wins(running: House, sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL))
    seen = running.stub(SourcesStub, "data", if_match="1")
    made, codes = await together(
        seen.UpdateSource(pb.UpdateSourceRequest(source="a", description=str(i), sql=SQL)) for i in range(MANY)
    )
    assert (len(made), set(codes)) == (1, {Code.ETAG_MISMATCH})
    assert (await sources.GetSource(pb.GetSourceRequest(source="a"))) == made[0]
    assert made[0].etag == "2"


async def test_a_delete_and_an_update_do_not_both_win(running: House, sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL))
    seen = running.stub(SourcesStub, "data", if_match="1")
    made, codes = await together(
        (
            seen.DeleteSource(pb.DeleteSourceRequest(source="a")),
            seen.UpdateSource(pb.UpdateSourceRequest(source="a", description="new")),
        )
    )
    assert len(made) == 1
    assert codes[0] in (Code.ETAG_MISMATCH, Code.NOT_FOUND)


async def test_an_undelete_by_many_is_one_change(running: House, sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL))
    await running.stub(SourcesStub, "data", if_match="1").DeleteSource(pb.DeleteSourceRequest(source="a"))
    made, codes = await together(sources.UndeleteSource(pb.UndeleteSourceRequest(source="a")) for _ in range(MANY))
    assert ({source.etag for source in made}, codes) == ({"3"}, [])


async def test_versions_of_a_rule_that_many_add_are_counted(running: House, sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL))
    rules = running.stub(RulesStub, "data")
    await rules.CreateRule(rules_pb2.CreateRuleRequest(rule="r", source="a", definition=DEFINITION))
    made, _ = await together(
        rules.CreateRuleVersion(rules_pb2.CreateRuleVersionRequest(rule="r", definition=DEFINITION))
        for _ in range(MANY)
    )
    assert sorted(rule.version for rule in made) == list(range(2, MANY + 2))
    assert sorted(int(rule.etag) for rule in made) == list(range(2, MANY + 2))


async def test_one_of_many_rules_writes_a_data_set(running: House, sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL))
    rules = running.stub(RulesStub, "data")
    made, codes = await together(
        rules.CreateRule(rules_pb2.CreateRuleRequest(rule=f"r{i}", source="a", data_set="d", definition=DEFINITION))
        for i in range(MANY)
    )
    assert (len(made), set(codes)) == (1, {Code.ALREADY_EXISTS})


async def test_one_of_many_extractions_of_a_rule_begins(running: House) -> None:
    tenant = Tenant(running)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    begun, codes = await together(tenant.begin("flights") for _ in range(MANY))
    assert (len(begun), set(codes)) == (1, {Code.IN_PROGRESS})
    await tenant.ended(begun[0].operation)
    assert (await tenant.version("flights")).rows == 5


async def test_repeats_of_a_run_are_one_run(running: House) -> None:
    tenant = Tenant(running)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    begun, codes = await together(tenant.begin("flights", idempotency_key="k") for _ in range(MANY))
    assert ({operation.operation for operation in begun}, codes) == ({begun[0].operation}, [])
    await tenant.ended(begun[0].operation)
    request = extractions_pb2.ListExtractionsRequest()
    assert len((await tenant.stub(ExtractionsStub).ListExtractions(request)).extractions) == 1


async def test_repeats_of_an_upload_leave_no_empty_one(running: House, home: Path) -> None:
    keyed = running.stub(SourcesStub, "data", idempotency_key="k")
    opened, codes = await together(keyed.CreateSourceUpload(up.CreateUploadRequest()) for _ in range(MANY))

    assert (len({upload.upload for upload in opened}), codes) == (1, [])
    assert os.listdir(home / "blobs" / "acme" / "uploads") == [opened[0].upload]


async def test_chunks_that_are_sent_twice_are_stored_once(sources: Any) -> None:
    data = b"code\n" + b"JFK\n" * 1000
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    upload = (await sources.CreateSourceUpload(up.CreateUploadRequest())).upload
    chunk = up.WriteUploadRequest(upload=upload, offset=0, body=HttpBody(data=data))
    stored, codes = await together(sources.WriteSourceUpload(chunk) for _ in range(MANY))
    done, refused = await together(
        sources.CommitSourceUpload(up.CommitUploadRequest(upload=upload, digest=digest)) for _ in range(MANY)
    )

    assert ([one.committed_size for one in stored], set(codes)) == ([len(data)], {Code.WRONG_OFFSET})
    assert (len(done), refused) == (MANY, [])
    files = pb.FilesSource(upload_digest=digest, format=pb.FILE_FORMAT_CSV)
    assert (await sources.PreviewSource(pb.PreviewSourceRequest(files=files, records=1))).records
