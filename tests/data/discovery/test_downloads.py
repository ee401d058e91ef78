"""Columns of URLs are found, and looked into when the caller says so."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from aimass.v1 import rules_pb2, sources_pb2
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from tests.data.extracting import Tenant
from tests.data.reading.test_media import png
from tests.support.downloads import SOURCE, Files, listed, said
from tests.support.house import house, until


@pytest.fixture
def web() -> Iterator[Files]:
    with Files() as made:
        yield made


@pytest.fixture
async def tenant(home: Path, web: Files) -> AsyncIterator[Tenant]:
    async with house(home, "data", AIMASS_EGRESS_ALLOW=web.host) as running:
        yield Tenant(running)


async def proposed(tenant: Tenant, check: bool) -> Any:
    request = rules_pb2.DiscoverRulesRequest(source="photos", check_urls=check)
    (proposal,) = (await tenant.stub(RulesStub).DiscoverRules(request)).proposals
    return proposal


async def test_urls_are_found_and_checked_when_that_is_asked(tenant: Tenant, home: Path, web: Files) -> None:
    web.files |= {"/0.png": png(3, 2), "/1.png": png(4, 4)}
    listed(home, [web.url(f"/{number % 11}.png") for number in range(40)])
    await tenant.stub(SourcesStub).CreateSource(
        ParseDict({"source": "photos", **SOURCE}, sources_pb2.CreateSourceRequest())
    )
    (found,) = (await proposed(tenant, False)).downloads
    assert not web.asked
    assert (found.download, found.records, found.urls, found.checked) == (rules_pb2.Download(column="photo"), 40, 11, 0)

    proposal = await proposed(tenant, True)
    (found,) = proposal.downloads
    assert web.asked == {"/0.png": 1, "/1.png": 1, "/2.png": 1}
    assert (found.checked, found.kept, list(found.media_types)) == (3, 2, ["image/png"])
    assert list(found.reasons) == ["the server answers 404"]
    assert list(found.download.media_types) == ["image/*"]
    assert not proposal.definition.downloads, "a rule that is found downloads nothing by itself"
    proposal.definition.downloads.append(found.download)
    request = rules_pb2.CreateRuleRequest(rule="photos", source="photos", definition=proposal.definition)
    assert (await tenant.stub(RulesStub).CreateRule(request)).definition.downloads[0].column == "photo"


async def test_what_is_no_url_in_one_record_is_no_column_of_urls(tenant: Tenant, home: Path, web: Files) -> None:
    listed(home, [*(web.url(f"/{number}") for number in range(30)), "none"])
    await tenant.stub(SourcesStub).CreateSource(
        ParseDict({"source": "photos", **SOURCE}, sources_pb2.CreateSourceRequest())
    )
    assert not (await proposed(tenant, True)).downloads
    assert not web.asked


def hangs(handler: Any) -> None:
    said(200, b"begun", content_length="100")(handler)
    handler.wfile.flush()
    time.sleep(3)


async def test_a_caller_who_leaves_while_urls_are_checked_leaves_no_files(
    tenant: Tenant, home: Path, web: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing = tmp_path / "passing"
    passing.mkdir()
    monkeypatch.setenv("TMPDIR", str(passing))
    monkeypatch.setattr(tempfile, "tempdir", str(passing))
    web.files |= {f"/{number}": hangs for number in range(12)}
    listed(home, [web.url(path) for path in web.files])
    await tenant.stub(SourcesStub).CreateSource(
        ParseDict({"source": "photos", **SOURCE}, sources_pb2.CreateSourceRequest())
    )
    asked = rules_pb2.DiscoverRulesRequest(source="photos", check_urls=True)
    call = asyncio.ensure_future(tenant.stub(RulesStub).DiscoverRules(asked))
    await until(lambda: list(passing.rglob("*.part")))
    call.cancel()
    await until(lambda: not list(passing.iterdir()))
