"""Every kind of source, from its description to rows: previewed, discovered, tried and extracted.

The type checker does not see who forgets a kind here: a kind without a case fails.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from aimass.v1 import extractions_pb2, rules_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.data.reading.kinds import SOURCES
from tests.data import places
from tests.data.extracting import Tenant
from tests.support.buckets import Bucket
from tests.support.endpoints import Endpoints
from tests.support.house import house

CSV = "carrier,delay\n" + "".join(f"{'UA' if n % 2 else 'DL'},{n}\n" for n in range(1, 31))
TABLE = {"url": "sqlite:///flights.db", "table": "flights", "cursor": "id"}
# Of each kind one that needs no more than a name, and those that are read by a connector of their own.
KINDS = ["sql", "files", "pushed", "files of a bucket", "files of an endpoint", "crawl"]
# Kinds that need a server of others: the module of the far tests that does the same with them.
FAR = {"kafka": "test_kafka_sources.py"}


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with Bucket() as made:
        made.objects["a.csv"] = CSV.encode()
        yield made


def _html(body: Any) -> Any:
    return lambda *_: (200, {"content-type": "text/html"}, body)


@pytest.fixture
def web() -> Iterator[Endpoints]:
    with Endpoints() as made:
        made.answers["/a.csv"] = CSV.encode()
        pages = {f"/page/{n}": f"<p>Page {n} of many".encode() for n in range(1, 30)}
        made.answers |= {"/page/0": "".join(f'<a href="{path}">x</a>' for path in pages).encode(), **pages}
        made.answers |= {path: _html(body) for path, body in made.answers.items() if "page" in path}
        yield made


@pytest.fixture
async def tenant(home: Path) -> AsyncIterator[Tenant]:
    places.flights(home, rows=30)
    places.write(home, "a.csv", CSV)
    async with house(home, "data", AIMASS_EGRESS_ALLOW="127.0.0.1") as running:
        yield Tenant(running)


def described(kind: str, bucket: Bucket, web: Endpoints) -> dict[str, Any]:
    return {
        "sql": {"sql": TABLE},
        "files": {"files": {"pattern": "*.csv", "format": "FILE_FORMAT_CSV"}},
        "pushed": {"pushed": {"record_id": "delay"}},
        "files of a bucket": bucket.files("*.csv"),
        "files of an endpoint": web.files("/a.csv", "CSV"),
        "crawl": {"crawl": {"start_urls": [f"{web.url}/page/0"], "depth": 1, "requests_per_second": 100}},
    }[kind]


def test_every_kind_of_source_has_a_case() -> None:
    assert {kind.partition(" ")[0] for kind in KINDS} | set(FAR) == set(SOURCES)
    for module in FAR.values():
        text = (Path(__file__).parents[1] / "far" / module).read_text()
        assert [call for call in ("PreviewSource", "DiscoverRules", "TestRule") if f".{call}(" not in text] == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_source_of_every_kind_is_previewed_discovered_tried_and_extracted(
    tenant: Tenant, bucket: Bucket, web: Endpoints, kind: str
) -> None:
    sources, rules, source = tenant.stub(SourcesStub), tenant.stub(RulesStub), described(kind, bucket, web)
    await sources.PreviewSource(ParseDict(source, pb.PreviewSourceRequest()))
    await sources.CreateSource(ParseDict({"source": "a", **source}, pb.CreateSourceRequest()))
    if kind == "pushed":
        records = [{"carrier": "UA", "delay": n} for n in range(1, 31)]
        await sources.PushRecords(ParseDict({"source": "a", "records": records}, pb.PushRecordsRequest()))
    assert len((await sources.PreviewSource(pb.PreviewSourceRequest(source="a", records=30))).records) == 30
    found = await rules.DiscoverRules(rules_pb2.DiscoverRulesRequest(source="a"))
    definition = found.proposals[0].definition
    await rules.CreateRule(rules_pb2.CreateRuleRequest(rule="a", source="a", definition=definition))
    trial = await rules.TestRule(rules_pb2.TestRuleRequest(rule="a", records=30))
    assert (trial.coverage, len(trial.rows)) == (1.0, 20)
    await rules.ActivateRule(rules_pb2.ActivateRuleRequest(rule="a", version=1))
    extractions, asked = tenant.stub(ExtractionsStub), extractions_pb2.GetCursorRequest(rule="a")
    lag = (await extractions.GetCursor(asked)).lag
    # Files count bytes; of a site only where it begins is known.
    assert lag == (len(CSV) if kind.startswith("files") else 1 if kind == "crawl" else 30)
    assert (await tenant.extract("a")).rows_accepted == 30
    assert (await extractions.GetCursor(asked)).lag == 0
    assert (await tenant.extract("a")).records_read == 0
