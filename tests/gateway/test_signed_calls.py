"""Signed gRPC calls: taken once and whole, as requests over HTTP are (RELIABILITY V12)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from aimass import Signer
from aimass.grpc_signing import interceptors, signed
from aimass.v1 import access_pb2, logs_pb2, models_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from aimass.v1.logs_pb2_grpc import LogsStub
from aimass.v1.models_pb2_grpc import ModelsStub
from services.gateway.api.oip_messages import SERVICE, message
from services.kit.status import failure_of
from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
REFUSED = ("signature_invalid", "the request is not signed as it has to be")
MODEL = models_pb2.CreateModelRequest(model="late")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signers(gateway: Gateway) -> dict[str, Signer]:
    """One of each kind; their keys are not believed without."""
    gateway.house.age()
    private, stub = Ed25519PrivateKey.generate(), AccessStub
    async with aio.insecure_channel(gateway.doors["grpc"]) as channel:
        access: Any = stub(channel)
        found: dict[str, Signer] = {}
        for name, public in (("hmac", b""), ("curve", private.public_key().public_bytes_raw())):
            signing = access_pb2.Signing(policy=access_pb2.SIGNATURE_POLICY_REQUIRED, public_key=public)
            request = access_pb2.CreateApiKeyRequest(signing=signing)
            made = await access.CreateApiKey(request, metadata=(("authorization", f"Bearer {gateway.admin}"),))
            curve = Signer(made.api_key.api_key, "ed25519", private.sign)
            found[name] = curve if public else Signer.of(made.signing_secret)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(gateway: Gateway) -> AsyncIterator[aio.Channel]:
    """One that signs nothing."""
    async with aio.insecure_channel(gateway.doors["grpc"]) as opened:
        yield opened


def captured(
    signer: Signer, host: str, method: str = "CreateModel", content: bytes = MODEL.SerializeToString(), **fields: str
) -> list[tuple[str, str]]:
    """The metadata of a call as somebody wrote it down on its way."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    made = signer.headers("POST", host, f"/aimass.v1.Models/{method}", "", named, content)
    return [*named.items(), *made.items(), ("signed-authority", host)]


async def refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return failure_of(caught.value, "gateway").code.text, str(caught.value.details())


@pytest.mark.parametrize("kind", ["hmac", "curve"])
async def test_calls_of_every_shape_are_signed(gateway: Gateway, signers: dict[str, Signer], kind: str) -> None:
    target = gateway.doors["grpc"]
    async with aio.insecure_channel(target, interceptors=interceptors(signers[kind], target)) as opened:
        models: Any = ModelsStub(opened)
        logs: Any = LogsStub(opened)
        health: Any = health_pb2_grpc.HealthStub(opened)
        assert (await models.CreateModel(MODEL, metadata=(("x-project", "lab"),))).model == "late"
        assert gateway.services["aimass.v1.Models"].seen[-1].scope.project == "lab"
        assert [record async for record in logs.TailLogs(logs_pb2.TailLogsRequest())]
        assert (await health.Check(health_pb2.HealthCheckRequest(service="aimass.v1.Models"))).status
        watched: Any = health.Watch(health_pb2.HealthCheckRequest(service="aimass.v1.Models"))
        assert (await watched.read()).status
        watched.cancel()
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        listed: Any = reflection_pb2_grpc.ServerReflectionStub(opened).ServerReflectionInfo(asked)
        assert [reply async for reply in listed]
        infer: Any = opened.unary_unary(f"/{SERVICE}/ServerLive", lambda sent: sent.SerializeToString())
        assert await infer(message("ServerLiveRequest")())


async def test_a_channel_that_blocks_signs_as_well(gateway: Gateway, signers: dict[str, Signer]) -> None:
    def calls() -> tuple[str, int, int]:
        target = gateway.doors["grpc"]
        with grpc.insecure_channel(target) as plain:
            opened = signed(plain, signers["hmac"], target)
            models: Any = ModelsStub(opened)
            logs: Any = LogsStub(opened)
            made, _ = models.CreateModel(MODEL), models.GetModel.with_call(models_pb2.GetModelRequest(model="late"))
            asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            listed = reflection_pb2_grpc.ServerReflectionStub(opened).ServerReflectionInfo(asked)
            return made.model, len(list(logs.TailLogs(logs_pb2.TailLogsRequest()))), len(list(listed))

    model, streamed, listed = await asyncio.to_thread(calls)
    assert (model, streamed > 0, listed) == ("late", True, 1)


@pytest.mark.parametrize("kind", ["hmac", "curve"])
async def test_a_captured_call_has_one_effect(
    gateway: Gateway, channel: aio.Channel, signers: dict[str, Signer], kind: str
) -> None:
    stub: Any = ModelsStub(channel)
    metadata = captured(signers[kind], gateway.doors["grpc"], idempotency_key="k")
    seen = gateway.services["aimass.v1.Models"].seen
    before = len(seen)

    def without(*names: str) -> list[tuple[str, str]]:
        return [(name, value) for name, value in metadata if name not in names]

    other = models_pb2.CreateModelRequest(model="other")
    assert await refusal(stub.CreateModel(other, metadata=metadata)) == REFUSED
    assert (await stub.CreateModel(MODEL, metadata=metadata)).model == "late"
    assert (await refusal(stub.CreateModel(MODEL, metadata=metadata)))[0] == "replayed"
    for call in (
        stub.CreateModel(models_pb2.CreateModelRequest(), metadata=metadata),
        stub.DeleteModel(models_pb2.DeleteModelRequest(model="late"), metadata=metadata),
        stub.CreateModel(MODEL, metadata=[*metadata, ("x-project", "lab")]),
        stub.CreateModel(MODEL, metadata=[*without("idempotency-key"), ("idempotency-key", "new")]),
        stub.CreateModel(MODEL, metadata=[*without("signed-authority"), ("signed-authority", "localhost")]),
        stub.CreateModel(MODEL, metadata=without("signed-authority")),
        stub.CreateModel(MODEL, metadata=without("content-digest")),
        stub.CreateModel(MODEL, metadata=without("signature")),
    ):
        assert await refusal(call) == REFUSED
    assert len(seen) == before + 1


async def test_a_call_for_another_host_is_refused(channel: aio.Channel, signers: dict[str, Signer]) -> None:
    stub: Any = ModelsStub(channel)

    assert (
        await refusal(stub.CreateModel(MODEL, metadata=captured(signers["hmac"], "elsewhere.example:9090"))) == REFUSED
    )


async def test_bytes_that_are_no_message_are_said_to_be_none(channel: aio.Channel, gateway: Gateway) -> None:
    metadata = (("authorization", f"Bearer {gateway.admin}"),)

    for path in (f"/{SERVICE}/ModelInfer", "/aimass.v1.Models/CreateModel", "/grpc.health.v1.Health/Check"):
        call: Any = channel.unary_unary(path)
        assert (await refusal(call(b"\xff\xff", metadata=metadata)))[0] == "invalid_value"
