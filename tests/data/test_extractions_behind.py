"""What tables, files, objects and endpoints have behind a cursor, and what is said of a source that is away."""

import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from aimass.v1 import extractions_pb2 as pb
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant, append
from tests.support import buckets
from tests.support.buckets import Bucket
from tests.support.endpoints import Endpoints
from tests.support.house import house
from tests.support.refused import refused

LINES = {"regex": {"pattern": r"(?P<n>\d+)", "columns": [{"name": "n", "type": "COLUMN_TYPE_INT64"}]}}
RULE = {"json": {"columns": [{"name": "n", "type": "COLUMN_TYPE_INT64", "required": True}]}}
CSV = {"file": {"columns": [{"name": "n", "type": "COLUMN_TYPE_INT64"}]}}


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with Bucket() as made:
        yield made


@pytest.fixture
async def tenant(home: Path) -> AsyncIterator[Tenant]:
    async with house(home, "data", AIMASS_EGRESS_ALLOW="127.0.0.1") as running:
        yield Tenant(running)


async def behind(tenant: Tenant, rule: str) -> tuple[int, int]:
    """How many parts have something behind the cursor, and how much."""
    found = await tenant.stub(ExtractionsStub).GetCursor(pb.GetCursorRequest(rule=rule))
    return found.parts_behind, found.lag


async def test_a_table_has_rows_above_the_cursor(tenant: Tenant, home: Path) -> None:
    places.flights(home, rows=5)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    assert await behind(tenant, "flights") == (1, 5)
    await tenant.extract("flights")
    places.flights(home, rows=7, first=6)
    found = await tenant.stub(ExtractionsStub).GetCursor(pb.GetCursorRequest(rule="flights"))
    assert (found.unit, found.lag, found.parts[0].part) == (pb.LAG_UNIT_RECORDS, 7, "flights")
    assert dict(found.cursor) == {"after": 5}


async def test_files_that_grew_are_new_or_were_compressed_are_behind(tenant: Tenant, home: Path) -> None:
    log = places.write(home, "a.log", "1\n2\n")
    await tenant.rule("log", {"files": {"pattern": "*.log*", "format": "FILE_FORMAT_TEXT"}}, LINES)
    await tenant.extract("log")
    append(log, "333\n")
    places.write(home, "b.log", "4\n")
    found = await tenant.stub(ExtractionsStub).GetCursor(pb.GetCursorRequest(rule="log"))
    assert (found.unit, found.parts_behind, found.lag) == (pb.LAG_UNIT_BYTES, 2, 6)
    assert [(part.part, part.position, part.end) for part in found.parts] == [("a.log", 4, 8), ("b.log", 0, 2)]
    assert dict(found.cursor) == {"files": 1}
    await tenant.extract("log")
    packed = gzip.compress(log.read_bytes())
    log.unlink()
    (log.parent / "a.log.gz").write_bytes(packed)
    # What it holds is known when it is unpacked.
    assert await behind(tenant, "log") == (1, len(packed))
    assert (await tenant.extract("log")).records_read == 0
    assert await behind(tenant, "log") == (0, 0)


async def test_objects_that_were_written_again_are_behind_and_are_not_read_for_that(
    tenant: Tenant, bucket: Bucket
) -> None:
    bucket.objects |= {"a.csv": b"n\n1\n", "b.csv": b"n\n2\n"}
    await tenant.rule("days", bucket.files("*.csv"), CSV)
    await tenant.extract("days")
    bucket.gets()
    assert await behind(tenant, "days") == (0, 0)
    assert bucket.gets() == []
    bucket.objects |= {"a.csv": b"n\n1\n10\n", "c.csv": b"n\n3\n"}
    assert await behind(tenant, "days") == (2, 7)


async def test_an_endpoint_has_what_it_answers_now(tenant: Tenant) -> None:
    with Endpoints() as web:
        web.answers["/a"] = orjson.dumps([{"n": 2}, {"n": 1}])
        await tenant.rule("a", web.files("/a", since_path="$.n"), RULE)
        await tenant.extract("a")
        assert await behind(tenant, "a") == (0, 0)
        web.answers["/a"] = orjson.dumps([{"n": 3}, {"n": 2}])
        assert await behind(tenant, "a") == (1, len(b'[{"n":3}]'))


async def test_a_source_that_is_away_says_so(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects["a.csv"] = b"n\n1\n"
    await tenant.rule("days", bucket.files("*.csv"), CSV)
    bucket.faults = [buckets.busy]
    failure = await refused(tenant.stub(ExtractionsStub).GetCursor(pb.GetCursorRequest(rule="days")))
    assert (failure.code, failure.detail) == (Code.UNAVAILABLE, "127.0.0.1 answers 503")
