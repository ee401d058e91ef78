"""Objects of a bucket as sources: read once, read on when they grow, and whole whatever their server does."""

import gzip
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.json_format import MessageToJson, ParseDict

from aimass.v1 import operations_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1.data_events_pb2 import SourceChanged
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code, Failure
from tests.data.extracting import Tenant
from tests.support import buckets
from tests.support.buckets import ACCESS, SECRET, Bucket, said
from tests.support.house import house, until
from tests.support.refused import refused

RULE = {"file": {"columns": [{"name": "n", "type": "COLUMN_TYPE_INT64", "required": True}]}}
LOGS = {"regex": {"pattern": r"(?P<n>\d+).*", "columns": [{"name": "n", "type": "COLUMN_TYPE_INT64"}]}}


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with Bucket() as made:
        yield made


@pytest.fixture
async def tenant(home: Path) -> AsyncIterator[Tenant]:
    async with house(home, "data", AIMASS_EGRESS_ALLOW="127.0.0.1") as running:
        yield Tenant(running)


async def numbers(tenant: Tenant, name: str = "days") -> list[int]:
    """What a run adds."""
    before = len(await tenant.rows(name)) if (await runs(tenant, name)) else 0
    await tenant.extract(name)
    return [int(row["n"]) for row in (await tenant.rows(name))[before:]] if await runs(tenant, name) else []


async def runs(tenant: Tenant, name: str) -> bool:
    try:
        return bool((await tenant.version(name)).version)
    except Failure:
        return False


async def made(tenant: Tenant, described: dict[str, Any]) -> Failure:
    return await refused(
        tenant.stub(SourcesStub).CreateSource(ParseDict({"source": "a", **described}, pb.CreateSourceRequest()))
    )


def rows(first: int, count: int) -> bytes:
    return b"n\n" + b"".join(b"%d\n" % n for n in range(first, first + count))


async def test_objects_are_read_once_those_that_grew_from_there_and_others_from_their_start(
    tenant: Tenant, bucket: Bucket
) -> None:
    bucket.objects |= {
        "days/1.csv": rows(1, 3),
        "days/2.csv": b"n\n4\n5",
        "days/deeper/3.csv": b"n\n6\n",
        "x": b"n\n7\n",
    }
    await tenant.rule("days", bucket.files("days/*.csv"), RULE)
    assert await numbers(tenant) == [1, 2, 3, 4, 5]  # the last line of an object needs no end
    bucket.gets()

    assert (await tenant.extract("days")).records_read == 0
    assert bucket.gets() == []  # a list says that nothing has changed
    bucket.objects["days/1.csv"] += b"8\n9\n"
    bucket.objects["days/4.csv"] = rows(10, 2)
    assert await numbers(tenant) == [8, 9, 10, 11]
    assert set(bucket.gets()) == {"days/1.csv", "days/4.csv"}
    bucket.objects["days/4.csv"] = rows(20, 1)
    begun = await tenant.begin("days")
    done = await tenant.ended(begun.operation)
    assert "days/4.csv is another file than before and was read from its start" in done.message
    assert [int(row["n"]) for row in await tenant.rows("days")][-1:] == [20]


async def test_a_new_object_is_asked_for_as_often_however_many_are_gone(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects |= {f"{n}.csv": rows(1000 * n, 1200) for n in range(1, 9)}
    await tenant.rule("days", bucket.files("*.csv"), RULE)
    await tenant.extract("days")
    bucket.objects.clear()
    bucket.objects["new.csv"] = rows(10_000, 1200)
    bucket.gets()
    assert (await tenant.extract("days")).rows_accepted == 1200
    assert len(bucket.gets()) <= 3  # how it is compressed, how it begins, and its rows


async def test_a_pattern_names_objects_over_pages_of_the_list(tenant: Tenant, bucket: Bucket) -> None:
    bucket.page = 2
    bucket.objects |= {f"{town}/a b+%{n}.csv": rows(n, 1) for town in ("bern", "genf") for n in range(1, 6)}
    bucket.objects |= {"bern/.a b.csv": rows(100, 1), "bern/": b"", "basel/nothing": b""}
    await tenant.rule("days", bucket.files("*e*/a b*.csv"), RULE)
    assert sorted(await numbers(tenant)) == sorted([1, 2, 3, 4, 5] * 2)
    await tenant.rule("one", bucket.files("bern/a b+%3.csv"), RULE)
    assert await numbers(tenant, "one") == [3]


async def test_every_format_is_previewed_and_read_compressed_or_not(tenant: Tenant, bucket: Bucket) -> None:
    parquet, document = io.BytesIO(), {"json": {"columns": [{"name": "n", "type": "COLUMN_TYPE_INT64"}]}}
    pq.write_table(pa.table({"n": [1, 2]}), parquet)
    formats: dict[str, tuple[bytes, dict[str, Any]]] = {
        "TEXT": (b"1\n2\n", LOGS),
        "JSON_LINES": (b'{"n": 1}\n{"n": 2}\n', document),
        "JSON": (b'[{"n": 1}, {"n": 2}]', document),
        "PARQUET": (parquet.getvalue(), RULE),
        "CSV": (b"n\n1\n2\n", RULE),
    }
    for kind, (data, rule) in formats.items():
        bucket.objects[kind] = data if kind == "PARQUET" else gzip.compress(data)
        described, name = bucket.files(kind, kind), kind.lower().replace("_", "-")
        shown = await tenant.stub(SourcesStub).PreviewSource(ParseDict(described, pb.PreviewSourceRequest()))
        assert (len(shown.records), list(shown.parts)) == (2, [kind])
        await tenant.rule(name, described, rule)
        assert await numbers(tenant, name) == [1, 2]
        assert (await tenant.extract(name)).records_read == 0


async def test_a_large_object_is_read_in_pieces_and_previewed_by_its_beginning(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects["a.log"] = b"".join(b"%08d %s\n" % (n, b"x" * 990) for n in range(18_000))  # 18 MB
    shown = await tenant.stub(SourcesStub).PreviewSource(
        ParseDict(bucket.files("a.log", "TEXT"), pb.PreviewSourceRequest())
    )
    assert shown.records[0]["line"].startswith("00000000 x")
    assert len(bucket.gets()) <= 3
    await tenant.rule("days", bucket.files("a.log", "TEXT"), LOGS)
    assert (await tenant.extract("days")).rows_accepted == 18_000
    assert len(bucket.gets()) <= 12


async def test_a_server_that_fails_is_waited_for_and_nothing_is_doubled(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects["empty.csv"] = b""
    await tenant.rule("days", bucket.files("*.csv"), RULE)
    for number, fault in enumerate((buckets.reset, buckets.busy, buckets.cut)):
        bucket.objects[f"{number}.csv"] = rows(1, 20_000)
        bucket.faults = [fault, buckets.well, buckets.well, fault, fault]
        assert (await tenant.extract("days")).rows_accepted == 20_000
        assert bucket.faults == []
    assert (await tenant.extract("days")).records_read == 0


async def test_a_run_says_that_it_waits_and_goes_on(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects["a.csv"] = rows(1, 3)
    await tenant.rule("days", bucket.files("*.csv"), RULE)
    bucket.faults = [buckets.busy] * 3
    begun = await tenant.begin("days")

    async def waits() -> bool:
        request = operations_pb2.GetOperationRequest(operation=begun.operation)
        found = await tenant.stub(OperationsStub).GetOperation(request)
        return "waiting: 127.0.0.1 answers 503" in found.message

    assert await until(waits)
    done = await tenant.ended(begun.operation)
    assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED
    assert "waiting" not in done.message


CUT = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"  # and more behind it, which nobody names
LIES: list[tuple[list[buckets.Answer], int, str]] = [
    ([buckets.well, buckets.endless], 0, "127.0.0.1 sends more than it was asked for"),
    ([buckets.endless], 0, "127.0.0.1 sends more than it was asked for"),
    ([], 1000, "a.csv has another size than its bucket says"),
    ([buckets.well, said(412, b"")], 0, "a.csv was replaced or removed while it was read"),
    ([buckets.well, said(302, b"")], 0, "127.0.0.1 answers 302 for a.csv"),
    ([said(200, CUT)], 0, "127.0.0.1 lists a part of shop and does not say how it goes on"),
    ([said(200, b"<html>Welcome</html>")], 0, "it may not be one of S3"),
    ([said(200, b'<!DOCTYPE a [<!ENTITY b "c">]><ListBucketResult/>')], 0, "it may not be one of S3"),
    ([said(404, b"<Error><Code>NoSuchBucket</Code></Error>")], 0, "there is no such bucket"),
    ([said(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")], 0, "the secret does not fit the access key"),
    ([said(403, b"")], 0, "127.0.0.1 refuses to give shop"),
    ([said(301, b"<Error><Code>PermanentRedirect</Code></Error>")], 0, "set the field region"),
]


async def test_a_server_that_lies_ends_the_run_with_a_reason_and_the_next_one_reads_all(
    tenant: Tenant, bucket: Bucket
) -> None:
    bucket.objects["a.csv"] = rows(1, 5)
    await tenant.rule("days", bucket.files("*.csv"), RULE)
    for faults, size, says in LIES:
        bucket.faults, bucket.sizes = list(faults), {"a.csv": size} if size else {}
        done = await tenant.ended((await tenant.begin("days")).operation)
        assert done.state == operations_pb2.OPERATION_STATE_FAILED
        assert says in done.error.detail
    bucket.sizes.clear()
    assert (await tenant.extract("days")).rows_accepted == 5


async def test_the_secret_is_stored_encrypted_and_shown_nowhere(tenant: Tenant, bucket: Bucket, home: Path) -> None:
    bucket.objects["a.csv"] = rows(1, 3)
    await tenant.rule("days", bucket.files("*.csv"), RULE)
    stub = tenant.stub(SourcesStub)
    shown = [await stub.GetSource(pb.GetSourceRequest(source="days")), *(await tenant.house.heard(SourceChanged))]
    await tenant.extract("days")

    assert all(ACCESS in MessageToJson(message) for message in shown)
    assert not any(SECRET in MessageToJson(message) for message in shown)
    stored = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert ACCESS.encode() in stored
    assert SECRET.encode() not in stored
    assert all(f"AWS4-HMAC-SHA256 Credential={ACCESS}/" in found for found in bucket.authorizations)


async def test_a_mark_that_is_no_header_is_not_sent_back(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects["a.csv"] = rows(1, 3)
    await tenant.rule("days", bucket.files("*.csv"), RULE)
    one = "<Contents><Key>a.csv</Key><Size>8</Size><ETag>&quot;\xe9&quot;</ETag></Contents>"
    bucket.faults = [said(200, f"<ListBucketResult>{one}</ListBucketResult>".encode())]
    assert await numbers(tenant) == [1, 2, 3]


async def test_a_secret_is_for_one_server_and_one_key(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects["a.csv"] = rows(1, 3)
    await tenant.rule("days", bucket.files("*.csv"), RULE)
    stub = tenant.stub(SourcesStub, if_match="*")
    for change, fits in (({"pattern": "s3://shop/a.*"}, True), ({"access_key": "other"}, False)):
        files = bucket.files("*.csv")["files"] | {"secret": ""} | change
        call = stub.UpdateSource(ParseDict({"source": "days", "files": files}, pb.UpdateSourceRequest()))
        if fits:
            assert (await call).files.pattern == "s3://shop/a.*"
        else:
            assert (await refused(call)).detail == "the access key needs its secret: set the field secret"
    assert (await tenant.extract("days")).rows_accepted == 3


async def test_a_bucket_that_everybody_may_read_needs_no_key(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects["a.csv"] = rows(1, 3)
    await tenant.rule("days", bucket.files("*.csv", access_key="", secret=""), RULE)
    assert await numbers(tenant) == [1, 2, 3]
    assert set(bucket.authorizations) == {""}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"pattern": "s3://shop"}, "the pattern must be s3://bucket/prefix"),
    ({"pattern": "s3://Shop/a"}, "the pattern must be s3://bucket/prefix"),
    ({"pattern": "s3://shop/**/a"}, "the pattern must not contain **"),
    ({"pattern": "s3://shop/../a"}, "the path must not contain empty steps"),
    ({"pattern": "s3://shop/none*"}, "none* matches no file"),
    ({"pattern": "*.csv"}, "endpoint is for patterns that begin with s3://"),
    ({"endpoint": "ftp://127.0.0.1"}, "the endpoint must be https://host:port"),
    ({"endpoint": "http://u:p@127.0.0.1"}, "the endpoint must be https://host:port"),
    ({"endpoint": "http://127.0.0.1:99999"}, "the endpoint must be https://host:port"),
    ({"region": "a/b"}, "the region must be a word"),
    ({"access_key": "ä"}, "the access_key must have visible ASCII"),
    ({"access_key": ""}, "the secret needs the access_key"),
    ({"secret": ""}, "the access key needs its secret"),
]


async def test_what_cannot_be_a_bucket_is_refused(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects["a.csv"] = rows(1, 3)
    described = bucket.files("*.csv")
    for change, says in BAD:
        failure = await made(tenant, {"files": {**described["files"], **change}})
        assert failure.code in (Code.INVALID_VALUE, Code.FAILED_PRECONDITION)
        assert says in failure.detail


async def test_only_public_servers_are_reached_and_those_by_tls(home: Path, bucket: Bucket) -> None:
    async with house(home, "data") as running:
        tenant = Tenant(running)
        for endpoint in (bucket.endpoint, "https://127.0.0.1", "https://169.254.169.254", "http://8.8.8.8"):
            assert (await made(tenant, bucket.files("*.csv", endpoint=endpoint))).code is Code.EGRESS_DENIED
    assert bucket.asked == []


async def test_a_preview_does_not_wait_for_a_server_that_is_away(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects["a.csv"] = rows(1, 3)
    bucket.faults = [buckets.busy]
    call = tenant.stub(SourcesStub).PreviewSource(ParseDict(bucket.files("*.csv"), pb.PreviewSourceRequest()))
    failure = await refused(call)
    assert (failure.code, failure.detail) == (Code.UNAVAILABLE, "127.0.0.1 answers 503")


async def test_a_suggestion_keeps_the_bucket(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects["a"] = orjson.dumps({"n": 1}) + b"\n" + orjson.dumps({"n": 2}) + b"\n"
    shown = await tenant.stub(SourcesStub).PreviewSource(
        ParseDict(bucket.files("a", "TEXT"), pb.PreviewSourceRequest())
    )
    assert (shown.suggested.endpoint, shown.suggested.access_key) == (bucket.endpoint, ACCESS)
    assert (shown.suggested.format, shown.suggested.secret) == (pb.FILE_FORMAT_JSON_LINES, "")
