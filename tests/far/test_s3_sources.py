"""Objects of a real S3 server as sources: our signatures are its own, and every record is read once."""

import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import obstore
import pytest
from google.protobuf.json_format import ParseDict
from obstore.store import S3Store

from aimass.v1 import sources_pb2 as pb
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data.extracting import Tenant
from tests.support.house import house
from tests.support.refused import refused
from tests.support.servers import PASSWORD, USER, address

pytestmark = pytest.mark.far
RULE = {"file": {"columns": [{"name": "n", "type": "COLUMN_TYPE_INT64", "required": True}]}}
Put = Callable[[str, bytes], None]
FOLDER = secrets.token_hex(8)


@pytest.fixture
def endpoint() -> str:
    return parse_qs(urlsplit(address("s3")).query)["endpoint"][0]


@pytest.fixture
def put(endpoint: str) -> Put:
    keys: dict[str, Any] = {"access_key_id": USER, "secret_access_key": PASSWORD, "region": "us-east-1"}
    store = S3Store("far", endpoint=endpoint, client_options={"allow_http": True}, **keys)

    def put(name: str, data: bytes) -> None:
        obstore.put(store, f"{FOLDER}/{name}", data)

    return put


@pytest.fixture
async def tenant(tmp_path: Path) -> AsyncIterator[Tenant]:
    async with house(tmp_path, "data", AIMASS_EGRESS_ALLOW="127.0.0.1") as running:
        yield Tenant(running)


def source(endpoint: str, pattern: str = "*.csv", **more: Any) -> dict[str, Any]:
    files = {"endpoint": endpoint, "access_key": USER, "secret": PASSWORD, "format": "FILE_FORMAT_CSV", **more}
    return {"files": {"pattern": f"s3://far/{FOLDER}/{pattern}", **files}}


async def test_objects_are_read_once_also_those_with_odd_names(tenant: Tenant, endpoint: str, put: Put) -> None:
    for number, name in enumerate(("a b+c.csv", "ä=%20&?#.csv", "(x)~'!.csv"), 1):
        put(name, b"n\n%d\n" % number)
    put("deeper/x.csv", b"n\n9\n")
    await tenant.rule("days", source(endpoint), RULE)
    assert (await tenant.extract("days")).rows_accepted == 3
    assert sorted(int(row["n"]) for row in await tenant.rows("days")) == [1, 2, 3]
    assert (await tenant.extract("days")).records_read == 0
    put("a b+c.csv", b"n\n1\n4\n")
    put("later.csv", b"n\n5\n")
    assert (await tenant.extract("days")).rows_accepted == 2


async def test_a_large_object_is_read_in_ranges_and_a_list_has_pages(tenant: Tenant, endpoint: str, put: Put) -> None:
    put("large/all.csv", b"n\n" + b"".join(b"%015d\n" % n for n in range(300_000)))
    for number in range(1005):
        put(f"many/{number}.csv", b"n\n%d\n" % number)
    await tenant.rule("large", source(endpoint, "large/*"), RULE)
    assert (await tenant.extract("large")).rows_accepted == 300_000
    await tenant.rule("many", source(endpoint, "many/*.csv"), RULE)
    assert (await tenant.extract("many")).rows_accepted == 1005


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"secret": "wrong"}, "the secret does not fit the access key"),
        ({"access_key": "nobody"}, "does not know the access key"),
        ({"pattern": "s3://nothing/*.csv"}, "there is no such bucket"),
        ({"pattern": "s3://far/nothing/*.csv"}, "matches no file"),
    ],
)
async def test_what_cannot_be_read_is_said(tenant: Tenant, endpoint: str, change: dict[str, Any], says: str) -> None:
    described = {"files": {**source(endpoint)["files"], **change}}
    request = ParseDict({"source": "a", **described}, pb.CreateSourceRequest())
    failure = await refused(tenant.stub(SourcesStub).CreateSource(request))
    assert (failure.code, says in failure.detail) == (Code.INVALID_VALUE, True), failure.detail
