"""Brokers that ask who one is: what proves it is stored encrypted, for these brokers, and shown nowhere."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson, ParseDict

from aimass.v1 import sources_pb2 as pb
from aimass.v1.data_events_pb2 import SourceChanged
from aimass.v1.sources_pb2_grpc import SourcesStub
from deploy.authority import Authority
from services.kit.errors import Code
from tests.data.extracting import Tenant
from tests.data.topics import source, topic, write
from tests.far.kafka_secure import PASSWORD, USER, secure
from tests.support.house import house
from tests.support.refused import refused
from tests.support.servers import Program, address

pytestmark = pytest.mark.far
NUMBERS = {"json": {"columns": [{"name": "n", "from": "$.value.n", "type": "COLUMN_TYPE_INT64"}]}}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    address("kafka")  # skipped where there is none
    made = secure(tmp_path_factory.mktemp("broker"))
    topic(2, "numbers", made.address)
    write("numbers", [(n % 2, None, b'{"n": %d}' % n) for n in range(100)], made.address)
    yield made
    made.end()


@pytest.fixture
async def tenant(tmp_path: Path) -> AsyncIterator[Tenant]:
    async with house(tmp_path, "data", AIMASS_EGRESS_ALLOW="localhost") as running:
        yield Tenant(running)


def described(broker: Program, door: str, **more: Any) -> dict[str, Any]:
    ca = (broker.folder / "certs" / "ca.pem").read_text()
    said = {"tls": True, "ca_certificates": ca, **more}
    return source("numbers", where=broker.doors[door], **said)


def words(broker: Program, **more: Any) -> dict[str, Any]:
    return described(broker, "sasl", **{"sasl_username": USER, "sasl_password": PASSWORD, **more})


@pytest.mark.parametrize("mechanism", ["UNSPECIFIED", "SCRAM_SHA_512", "SCRAM_SHA_256", "PLAIN"])
async def test_a_topic_is_read_with_a_password_that_is_shown_nowhere(
    tenant: Tenant, broker: Program, mechanism: str, tmp_path: Path
) -> None:
    await tenant.rule("numbers", words(broker, sasl_mechanism=f"SASL_MECHANISM_{mechanism}"), NUMBERS)
    assert (await tenant.extract("numbers")).rows_accepted == 100
    stub = tenant.stub(SourcesStub)
    shown = [
        await stub.GetSource(pb.GetSourceRequest(source="numbers")),
        await stub.ListSources(pb.ListSourcesRequest()),
    ]
    shown += await tenant.house.heard(SourceChanged)
    assert not any(PASSWORD in MessageToJson(message) for message in shown)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert USER.encode() in stored
    assert PASSWORD.encode() not in stored


async def test_a_topic_is_read_with_a_certificate(tenant: Tenant, broker: Program, tmp_path: Path) -> None:
    folder = broker.folder / "certs"
    certificate, key = (folder / "cert.pem").read_text(), (folder / "key.pem").read_text()
    said = described(broker, "certificate", client_certificate=certificate, client_key=key)
    await tenant.rule("numbers", said, NUMBERS)
    assert (await tenant.extract("numbers")).rows_accepted == 100
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert key.splitlines()[1].encode() not in stored
    shown = await tenant.stub(SourcesStub).GetSource(pb.GetSourceRequest(source="numbers"))
    assert (shown.kafka.client_certificate, shown.kafka.client_key) == (certificate, "")


async def test_who_cannot_prove_it_is_refused_and_so_are_brokers_that_cannot(tenant: Tenant, broker: Program) -> None:
    other = Authority.new().pem.decode()
    for said, code, says in (
        (words(broker, sasl_password="wrong"), Code.FAILED_PRECONDITION, "the brokers refuse the user reader"),
        (words(broker, ca_certificates=other), Code.UNAVAILABLE, "answers (with TLS"),
        (words(broker, tls=False, ca_certificates=""), Code.UNAVAILABLE, "answers (with no TLS"),
        (described(broker, "certificate"), Code.UNAVAILABLE, "answers (with TLS"),
    ):
        request = ParseDict(said, pb.PreviewSourceRequest())
        failure = await refused(tenant.stub(SourcesStub).PreviewSource(request))
        assert (failure.code, says in failure.detail) == (code, True), failure.detail
        assert PASSWORD not in failure.detail


async def test_a_password_is_for_these_brokers_only(tenant: Tenant, broker: Program) -> None:
    said = words(broker)
    await tenant.stub(SourcesStub).CreateSource(ParseDict({"source": "numbers", **said}, pb.CreateSourceRequest()))
    stub = tenant.stub(SourcesStub, if_match="*")
    without = {key: value for key, value in said["kafka"].items() if key != "sasl_password"}
    heard = list[bytes]()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(4096))
        writer.close()

    thief = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = thief.sockets[0].getsockname()[1]
    for change, code in (
        ({"lost_records": "LOST_RECORDS_SKIP"}, None),
        ({"bootstrap_servers": [f"localhost:{port}"]}, Code.FAILED_PRECONDITION),
        ({"sasl_mechanism": "SASL_MECHANISM_PLAIN"}, Code.FAILED_PRECONDITION),
    ):
        request = ParseDict({"source": "numbers", "kafka": {**without, **change}}, pb.UpdateSourceRequest())
        if code is None:
            assert (await stub.UpdateSource(request)).kafka.lost_records == pb.LOST_RECORDS_SKIP
        else:
            assert (await refused(stub.UpdateSource(request))).code is code
    thief.close()
    assert not heard
