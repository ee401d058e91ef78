"""Receipts of gRPC calls: over the messages as they travel, verified by who has them and the public key alone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aimass import Failure, Receipt, Signer
from aimass.grpc_receipts import receipted
from aimass.grpc_signing import interceptors, signed
from aimass.receipts import asking
from aimass.v1 import access_pb2, models_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from aimass.v1.failure_pb2 import FailureDetail
from aimass.v1.models_pb2_grpc import ModelsStub
from services.gateway.api.oip_messages import SERVICE, message
from services.gateway.receipts import Receipts
from services.kit.secrets import Vault
from services.kit.status import TRAILER, failure_of
from tests.gateway.serving import Serving, serving
from tests.support.models import logistic

pytestmark = pytest.mark.asyncio(loop_scope="module")
Kept = list[tuple[Receipt, bytes, bytes]]
OTHER = Receipts(Vault(Path("/nowhere"), "A" * 43 + "="), lambda: 0.0).public_key
WHO = access_pb2.WhoAmIRequest()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("home")) as found:
        await found.serve("late", logistic(4, 1))
        found.house.age()
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(app: Serving) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(app.doors["grpc"]) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(app: Serving, channel: aio.Channel) -> bytes:
    stub: Any = AccessStub(channel)
    return bytes((await stub.GetReceiptKey(access_pb2.GetReceiptKeyRequest(), metadata=shown(app))).public_key)


def shown(app: Serving, **fields: str) -> tuple[tuple[str, str], ...]:
    named = tuple((name.replace("_", "-"), value) for name, value in fields.items())
    return (("authorization", f"Bearer {app.key}"), *named)


def question(rows: int = 2) -> Any:
    """A prediction."""
    inputs = [{"name": "x", "datatype": "FP32", "shape": [rows, 4]}]
    content = np.zeros((rows, 4), "<f4").tobytes()
    return message("ModelInferRequest")(model_name="late", id="asked", inputs=inputs, raw_input_contents=[content])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept(app: Serving, channel: aio.Channel) -> Kept:
    """Receipts of some calls: with no bytes, with some, of a prediction, of a failure, of the health of a service."""
    found: Kept = []
    watched = receipted(channel, lambda *one: found.append(one), app.doors["grpc"])
    access: Any = AccessStub(watched)
    assert (await access.WhoAmI(WHO, metadata=shown(app))).tenant == "default"
    made = await access.CreateApiKey(access_pb2.CreateApiKeyRequest(display_name="one"), metadata=shown(app))
    assert made.api_key.display_name == "one"
    parse = message("ModelInferResponse").FromString
    infer = watched.unary_unary(f"/{SERVICE}/ModelInfer", lambda sent: sent.SerializeToString(), parse)
    assert (await infer(question(), metadata=shown(app, x_request_id="mine"), timeout=20)).id == "asked"
    models: Any = ModelsStub(watched)
    with pytest.raises(aio.AioRpcError) as caught:
        await models.GetModel(models_pb2.GetModelRequest(model="nobody"), metadata=shown(app))
    assert failure_of(caught.value, "gateway").code.text == "not_found"
    health: Any = health_pb2_grpc.HealthStub(watched)
    assert (await health.Check(health_pb2.HealthCheckRequest(), metadata=shown(app))).status
    return found


async def test_every_call_has_one_that_holds(kept: Kept, key: bytes) -> None:
    for receipt, request, answer in kept:
        receipt.verify(key, request, answer)

    answered = [(receipt.status, receipt.values["@path;req"]) for receipt, _, _ in kept]
    assert answered == [
        (0, "/aimass.v1.Access/WhoAmI"),
        (0, "/aimass.v1.Access/CreateApiKey"),
        (0, f"/{SERVICE}/ModelInfer"),
        (grpc.StatusCode.NOT_FOUND.value[0], "/aimass.v1.Models/GetModel"),
        (0, "/grpc.health.v1.Health/Check"),
    ]


async def test_large_messages_are_receipted_as_well(app: Serving, channel: aio.Channel, key: bytes) -> None:
    found: Kept = []
    watched = receipted(channel, lambda *one: found.append(one), app.doors["grpc"])
    parse = message("ModelInferResponse").FromString
    infer = watched.unary_unary(f"/{SERVICE}/ModelInfer", lambda sent: sent.SerializeToString(), parse)
    await infer(question(2**18 + 1), metadata=shown(app), timeout=20)
    ((receipt, request, answer),) = found

    assert min(len(request), len(answer)) > 2**20
    receipt.verify(key, request, answer)


async def test_the_bytes_kept_are_the_messages(kept: Kept) -> None:
    made, predicted, failed = kept[1], kept[2], kept[3]

    assert access_pb2.CreateApiKeyRequest.FromString(made[1]).display_name == "one"
    assert access_pb2.CreatedApiKey.FromString(made[2]).secret.startswith("aim_")
    assert message("ModelInferResponse").FromString(predicted[2]).model_version == "1"
    assert FailureDetail.FromString(failed[2]).code == "not_found"


async def test_the_receipt_of_a_prediction_says_which_version_answered_which_request(kept: Kept) -> None:
    receipt, _, _ = kept[2]

    assert receipt.request_id == "mine"
    assert receipt.model_version.startswith("1;digest=sha256:")
    assert Receipt.from_json(receipt.to_json()) == receipt


async def test_nothing_of_a_receipt_can_be_changed(kept: Kept, key: bytes) -> None:
    for receipt, _, _ in kept:
        values = receipt.values
        forged = [replace(receipt, values={**values, name: f"{value}0"}) for name, value in values.items()]
        forged += [replace(receipt, values={k: v for k, v in values.items() if k != name}) for name in values]
        forged.append(replace(receipt, values={**values, "@status": "200"}))
        forged.append(replace(receipt, parameters=receipt.parameters.replace('"grpc-status"', '"@status"')))
        for one in forged:
            with pytest.raises(Failure, match="receipt_invalid"):
                one.verify(key)


async def test_a_receipt_holds_for_its_own_messages_and_key_only(kept: Kept, key: bytes) -> None:
    for receipt, request, answer in kept:
        altered = access_pb2.Principal(tenant="other").SerializeToString()
        for wrong in ((key, request + b"\x08\x01", answer), (key, request, altered), (OTHER, request, answer)):
            with pytest.raises(Failure, match="receipt_invalid"):
                receipt.verify(*wrong)


async def test_a_stock_client_makes_one_out_of_metadata(app: Serving, key: bytes) -> None:
    content, target = models_pb2.CreateModelRequest(model="stock").SerializeToString(), app.doors["grpc"]

    def calls() -> tuple[bytes, dict[str, str]]:
        with grpc.insecure_channel(target) as opened:
            plain: Any = opened.unary_unary("/aimass.v1.Models/CreateModel")
            metadata = {**asking(content), "signed-authority": target}
            answer, call = plain.with_call(content, metadata=[*shown(app), *metadata.items()])
            return answer, dict(call.trailing_metadata())

    answer, trailers = await asyncio.to_thread(calls)
    receipt = Receipt.of_call("/aimass.v1.Models/CreateModel", target, content, 0, trailers)
    assert receipt
    receipt.verify(key, content, answer)
    for name in ("content-digest", "x-request-id", "signature-input", "signature"):
        turned = trailers[name].replace("1", "2") if "1" in trailers[name] else trailers[name][::-1]
        changed = Receipt.of_call("/aimass.v1.Models/CreateModel", target, content, 0, {**trailers, name: turned})
        with pytest.raises(Failure, match="receipt_invalid"):
            (changed or Receipt({}, "()", "")).verify(key, content, answer)


async def test_signed_calls_that_block_have_receipts_and_so_have_their_failures(app: Serving, key: bytes) -> None:
    stub: Any = AccessStub(aio.insecure_channel(app.doors["grpc"]))
    signing = access_pb2.Signing(policy=access_pb2.SIGNATURE_POLICY_REQUIRED)
    made = await stub.CreateApiKey(access_pb2.CreateApiKeyRequest(signing=signing), metadata=shown(app))
    target, found = app.doors["grpc"], list[tuple[Receipt, bytes, bytes]]()

    def calls() -> None:
        with grpc.insecure_channel(target) as plain:
            opened = receipted(
                signed(plain, Signer.of(made.signing_secret), target), lambda *one: found.append(one), target
            )
            models: Any = ModelsStub(opened)
            models.CreateModel(models_pb2.CreateModelRequest(model="signed"))
            assert models.GetModel.future(models_pb2.GetModelRequest(model="signed")).result().model == "signed"
            with pytest.raises(grpc.RpcError):
                models.CreateModel(models_pb2.CreateModelRequest(model="signed"))

    await asyncio.to_thread(calls)
    for receipt, request, answer in found:
        receipt.verify(key, request, answer)
    assert [receipt.status for receipt, _, _ in found] == [0, grpc.StatusCode.ALREADY_EXISTS.value[0]]


async def test_a_signed_channel_that_waits_has_them_as_well(app: Serving, key: bytes, channel: aio.Channel) -> None:
    stub: Any = AccessStub(channel)
    signing = access_pb2.Signing(policy=access_pb2.SIGNATURE_POLICY_REQUIRED)
    made = await stub.CreateApiKey(access_pb2.CreateApiKeyRequest(signing=signing), metadata=shown(app))
    target, found = app.doors["grpc"], list[tuple[Receipt, bytes, bytes]]()
    signs = interceptors(Signer.of(made.signing_secret), target)
    async with aio.insecure_channel(target, interceptors=signs) as opened:
        watched: Any = AccessStub(receipted(opened, lambda *one: found.append(one), target))
        call = watched.WhoAmI(WHO)
        assert (await call).principal == f"key:{made.api_key.api_key}"
        assert await call.code() is grpc.StatusCode.OK

    ((receipt, request, answer),) = found
    receipt.verify(key, request, answer)


async def test_a_call_that_is_waited_for_twice_has_one(app: Serving, channel: aio.Channel) -> None:
    found: Kept = []
    watched = receipted(channel, lambda *one: found.append(one), app.doors["grpc"])
    access, models = AccessStub(watched), ModelsStub(watched)
    good = access.WhoAmI(WHO, metadata=shown(app))
    bad = models.GetModel(models_pb2.GetModelRequest(model="nobody"), metadata=shown(app))

    assert await good == await good
    for _ in range(2):
        with pytest.raises(aio.AioRpcError):
            await bad
    assert [receipt.status for receipt, _, _ in found] == [0, grpc.StatusCode.NOT_FOUND.value[0]]


async def test_who_does_not_ask_gets_none_and_neither_do_strangers(app: Serving, channel: aio.Channel) -> None:
    plain: Any = channel.unary_unary("/aimass.v1.Access/WhoAmI")
    call = plain(b"", metadata=shown(app))
    await call
    names = {name for name, _ in await call.trailing_metadata() or ()}
    with pytest.raises(aio.AioRpcError) as caught:
        await plain(b"", metadata=(*asking(b"").items(), ("signed-authority", app.doors["grpc"])))

    assert not names & {"signature", "content-digest"}
    assert [name for name, _ in caught.value.trailing_metadata() or ()] == [TRAILER]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"x_receipt": "1"}, "invalid_value"),
        ({"x_receipt": "1", "signed_authority": "elsewhere.example:9090"}, "invalid_value"),
        ({"x_receipt": "1", "signed_authority": "127.0.0.1:9090"}, "invalid_value"),
        (
            {"x_receipt": "1", "signed_authority": "127.0.0.1:9090", "content_digest": "sha-256=:AAAA:"},
            "digest_mismatch",
        ),
    ],
)
async def test_a_call_is_receipted_only_with_its_host_and_digest(
    app: Serving, channel: aio.Channel, said: dict[str, str], code: str
) -> None:
    models: Any = ModelsStub(channel)
    with pytest.raises(aio.AioRpcError) as caught:
        await models.CreateModel(models_pb2.CreateModelRequest(model="undigested"), metadata=shown(app, **said))
    with pytest.raises(aio.AioRpcError) as missing:
        await models.GetModel(models_pb2.GetModelRequest(model="undigested"), metadata=shown(app))

    assert failure_of(caught.value, "gateway").code.text == code
    assert failure_of(missing.value, "gateway").code.text == "not_found"


async def test_a_repeat_says_so_beside_its_receipt(app: Serving, channel: aio.Channel, key: bytes) -> None:
    content, target = models_pb2.CreateModelRequest(model="twice").SerializeToString(), app.doors["grpc"]
    plain: Any = channel.unary_unary("/aimass.v1.Models/CreateModel")
    metadata = (*shown(app, idempotency_key="k", signed_authority=target), *asking(content).items())
    first = await plain(content, metadata=metadata)
    call = plain(content, metadata=metadata)

    assert await call == first
    trailers = {str(name): str(value) for name, value in await call.trailing_metadata() or ()}
    assert trailers["idempotency-replayed"] == "true"
    receipt = Receipt.of_call("/aimass.v1.Models/CreateModel", target, content, 0, trailers)
    assert receipt
    receipt.verify(key, content, first)
