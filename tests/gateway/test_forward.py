import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from aimass.v1 import access_pb2, artifacts_pb2, models_pb2, operations_pb2, uploads_pb2, workers_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from aimass.v1.artifacts_pb2_grpc import ArtifactsStub
from aimass.v1.models_pb2_grpc import ModelsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.workers_pb2_grpc import WorkersStub
from services.kit import contract
from services.kit.status import failure_of
from tests.gateway.conftest import Gateway
from tests.gateway.echo import CHUNKS
from tests.support.house import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def channel(gateway: Gateway) -> AsyncIterator[aio.Channel]:
    options = [("grpc.max_send_message_length", 64 * 2**20), ("grpc.max_receive_message_length", 64 * 2**20)]
    async with aio.insecure_channel(gateway.doors["grpc"], options=options) as opened:
        yield opened


def key(gateway: Gateway, **more: str) -> Any:
    return (("authorization", f"Bearer {gateway.admin}"), *((k.replace("_", "-"), v) for k, v in more.items()))


async def code_of(call: Any) -> str:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return failure_of(caught.value, "gateway").code.text


async def test_a_call_reaches_its_service_in_the_callers_name(gateway: Gateway, channel: Any) -> None:
    stub: Any = ModelsStub(channel)
    metadata = key(gateway, x_project="flights", x_request_id="grpc-1", tenant="system", x_principal="root")
    reply = await stub.GetModel(models_pb2.GetModelRequest(model="late"), metadata=metadata)

    call = gateway.services["aimass.v1.Models"].seen[-1]
    assert reply.model == "late"
    assert tuple(call.scope) == ("default", "flights")
    assert call.request_id == "grpc-1"
    assert not {"tenant", "x-principal"} & set(call.metadata)


async def test_our_own_methods_are_there_too(gateway: Gateway, channel: Any) -> None:
    stub: Any = AccessStub(channel)
    reply = await stub.WhoAmI(access_pb2.WhoAmIRequest(), metadata=key(gateway))

    assert list(reply.permissions) == ["*"]


async def test_no_method_answers_without_a_key(gateway: Gateway, channel: Any) -> None:
    public = [path for path, method in contract.all_methods().items() if method.public]
    others = [
        "/grpc.health.v1.Health/Check",
        "/inference.GRPCInferenceService/ServerLive",
        "/aimass.v1.Workers/LeaseJob",
    ]
    for path in [*public, *others, "/aimass.v1.Nothing/Here"]:
        call = channel.unary_unary(path)(b"", timeout=5)
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, path


async def test_a_failure_keeps_its_code(gateway: Gateway, channel: Any) -> None:
    stub: Any = ModelsStub(channel)

    assert await code_of(stub.GetModel(models_pb2.GetModelRequest(model="A"), metadata=key(gateway))) == "invalid_name"
    assert (
        await code_of(stub.DeleteModel(models_pb2.DeleteModelRequest(model="a"), metadata=key(gateway)))
        == "etag_required"
    )
    assert await code_of(stub.GetModel(models_pb2.GetModelRequest(model="broken"), metadata=key(gateway))) == "internal"


async def test_internal_methods_are_not_there(gateway: Gateway, channel: Any) -> None:
    stub: Any = WorkersStub(channel)
    with pytest.raises(aio.AioRpcError) as caught:
        await stub.LeaseJob(workers_pb2.LeaseJobRequest(), metadata=key(gateway))

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"\x0a\xff", b"\x0a\x02\xff\xfe", b"\x0a" * 10_000])
async def test_bytes_that_are_no_message_are_refused(gateway: Gateway, channel: Any, content: bytes) -> None:
    call = channel.unary_unary("/aimass.v1.Models/GetModel")(content, metadata=key(gateway), timeout=5)

    assert await code_of(call) == "invalid_value"


async def test_streams_come_through(gateway: Gateway, channel: Any) -> None:
    stub: Any = ArtifactsStub(channel)
    request = artifacts_pb2.DownloadArtifactRequest(digest="sha256:a")
    chunks = [chunk.data async for chunk in stub.DownloadArtifact(request, metadata=key(gateway))]

    assert tuple(chunks) == CHUNKS


async def test_a_stream_that_is_cut_ends_with_its_failure(gateway: Gateway, channel: Any) -> None:
    stub: Any = OperationsStub(channel)
    call = stub.StreamOperation(operations_pb2.GetOperationRequest(operation="trainer-cut"), metadata=key(gateway))
    with pytest.raises(aio.AioRpcError) as caught:
        [item async for item in call]

    assert failure_of(caught.value, "x").detail == "the rest is away"


async def test_a_message_is_no_larger_than_it_may_be(gateway: Gateway, channel: Any) -> None:
    models: Any = ModelsStub(channel)
    uploads: Any = ArtifactsStub(channel)
    large = models_pb2.GetModelRequest(model="a" * (4 * 2**20))
    chunk = uploads_pb2.WriteUploadRequest(upload="1")
    chunk.body.data = bytes(16 * 2**20)

    assert await code_of(models.GetModel(large, metadata=key(gateway))) == "body_too_large"
    assert (await uploads.WriteArtifactUpload(chunk, metadata=key(gateway))).committed_size == 16 * 2**20


async def test_who_calls_too_often_waits(gateway: Gateway, channel: Any) -> None:
    slow = await gateway.key(rate_limit={"rate": 0.1, "burst": 1})
    stub: Any = AccessStub(channel)
    metadata = (("authorization", f"Bearer {slow}"),)
    await stub.WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata)
    with pytest.raises(aio.AioRpcError) as caught:
        await stub.WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata)

    failure = failure_of(caught.value, "gateway")
    assert failure.code.text == "rate_limited"
    assert failure.retry_after
    assert failure.retry_after > 5


async def test_health_is_for_those_with_a_key(gateway: Gateway, channel: Any) -> None:
    stub = health_pb2_grpc.HealthStub(channel)

    async def serving() -> bool:
        reply = await stub.Check(health_pb2.HealthCheckRequest(service="aimass.v1.Models"), metadata=key(gateway))
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    await until(serving)
    call = stub.Watch(health_pb2.HealthCheckRequest(), metadata=key(gateway))
    assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
    call.cancel()
    assert await code_of(stub.Check(health_pb2.HealthCheckRequest(service="x"), metadata=key(gateway))) == "not_found"


async def test_reflection_describes_every_service(gateway: Gateway, channel: Any) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    symbols = ("aimass.v1.Models", "inference.GRPCInferenceService", "no.such.Thing")

    async def questions() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        for symbol in symbols:
            yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)

    answers = [a async for a in stub.ServerReflectionInfo(questions(), metadata=key(gateway))]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {"aimass.v1.Models", "aimass.v1.Access", "inference.GRPCInferenceService"} <= names
    assert not {"aimass.v1.Workers", "aimass.v1.Bus"} & names
    assert [bool(a.file_descriptor_response.file_descriptor_proto) for a in answers[1:]] == [True, True, False]


async def test_calls_are_in_the_access_log(gateway: Gateway, channel: Any) -> None:
    stub: Any = ModelsStub(channel)
    request = models_pb2.GetModelRequest(model="A")
    await code_of(stub.GetModel(request, metadata=key(gateway, x_request_id="grpc-logged")))

    def line() -> Any:
        text = (gateway.home / "logs" / "access.log").read_text()
        found = [json.loads(one) for one in text.splitlines() if "grpc-logged" in one]
        return found[0] if found else None

    logged = await until(line)
    assert (logged["method"], logged["path"], logged["status"]) == ("GRPC", "/aimass.v1.Models/GetModel", 422)
    assert logged["tenant"] == "default"
