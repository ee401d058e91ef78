"""The Open Inference Protocol over gRPC, with our own messages; and stock clients over both transports."""

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from grpc import aio
from tritonclient.utils import InferenceServerException

from aimass.v1 import engines_pb2
from aimass.v1.failure_pb2 import FailureDetail
from services.gateway.api.oip_messages import SERVICE, message, pool
from services.kit.errors import Code
from services.kit.status import TRAILER
from services.kit.timestamps import uuid7
from tests.gateway.serving import Serving, serving
from tests.support.house import until
from tests.support.models import logistic, lookup, texts

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS = np.random.default_rng(3).normal(size=(300, 4)).astype("<f4")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("home")) as found:
        await found.serve("late", logistic(4, 1))
        await found.serve("words", texts())
        await found.serve("table", lookup())
        yield found


Called = tuple[Any, dict[str, str]]


async def call(
    app: Serving, method: str, key: str = "", named: str = "r-3", **fields: Any
) -> tuple[Any, dict[str, str]]:
    """The reply and its initial metadata."""
    async with aio.insecure_channel(app.doors["grpc"]) as channel:
        request = message(f"{method}Request")(**fields)
        reply = message(f"{method}Response")
        stub: Any = channel.unary_unary(f"/{SERVICE}/{method}", lambda sent: sent.SerializeToString(), reply.FromString)
        under_way = stub(request, metadata=(("authorization", f"Bearer {key or app.key}"), ("x-request-id", named)))
        found = await under_way
        metadata: Any = await under_way.initial_metadata()
        return found, dict(metadata)


async def refusal(app: Serving, method: str, key: str = "", **fields: Any) -> tuple[str, str]:
    """Code and text of a failure."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call(app, method, key, **fields)
    for name, value in caught.value.trailing_metadata() or ():
        if name == TRAILER:
            detail = FailureDetail.FromString(value if isinstance(value, bytes) else value.encode())
            assert Code[detail.code.upper()].grpc is caught.value.code()
            return detail.code, caught.value.details() or ""
    return caught.value.code().name, caught.value.details() or ""


def tensor(name: str, datatype: str, *shape: int, **contents: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(shape)}
    return found | ({"contents": contents} if contents else {})


X = tensor("x", "FP32", 1, 4)


async def test_the_messages_are_in_a_pool_of_their_own() -> None:
    assert message("ModelInferRequest").DESCRIPTOR.file.pool is pool()
    assert message("ModelInferRequest") is not triton_grpc.service_pb2.ModelInferRequest
    assert engines_pb2.Tensor.DESCRIPTOR.file.pool is not pool()


async def test_the_server_is_there(app: Serving) -> None:
    assert (await call(app, "ServerLive"))[0].live
    assert (await call(app, "ServerReady"))[0].ready
    assert (await call(app, "ServerMetadata"))[0].name == "aimass"


async def test_a_model_is_ready_and_described(app: Serving) -> None:
    assert (await call(app, "ModelReady", name="late"))[0].ready
    found = (await call(app, "ModelMetadata", name="late"))[0]

    assert list(found.versions) == ["1"]
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [("x", "FP32", [-1, 4])]


async def test_raw_and_typed_values_have_the_same_answer(app: Serving) -> None:
    row = [0.5, -1.0, 2.0, 0.25]
    typed, metadata = await call(
        app, "ModelInfer", model_name="late", id="a", inputs=[tensor("x", "FP32", 1, 4, fp32_contents=row)]
    )
    raw, _ = await call(
        app, "ModelInfer", model_name="late", id="a", inputs=[X], raw_input_contents=[struct.pack("<4f", *row)]
    )

    assert typed == raw
    assert (raw.id, raw.model_version, raw.outputs[0].name) == ("a", "1", "probability")
    assert metadata["model-version"].startswith("1;digest=sha256:")
    assert metadata["x-request-id"] == "r-3"


async def test_typed_strings_and_integers_arrive(app: Serving) -> None:
    words, _ = await call(
        app, "ModelInfer", model_name="words", inputs=[tensor("s0", "BYTES", 2, 1, bytes_contents=[b"a", b""])]
    )
    numbers, _ = await call(
        app, "ModelInfer", model_name="table", inputs=[tensor("i", "INT64", 2, int64_contents=[1, 2])]
    )

    assert words.raw_output_contents[0] == b"\1\0\0\0a\0\0\0\0"
    assert struct.unpack("<2f", numbers.raw_output_contents[0]) == (0.25, 0.5)


WRONG: dict[str, dict[str, Any]] = {
    "x must have 16 bytes for its shape, not 3": {"inputs": [X], "raw_input_contents": [b"abc"]},
    "x has the unknown datatype FP31": {"inputs": [tensor("x", "FP31", 1, 4)]},
    "x must be FP32, not INT8": {"inputs": [tensor("x", "INT8", 1, 4, int_contents=[1, 2, 3, 4])]},
    "x is INT8: one of its values is out of range": {"inputs": [tensor("x", "INT8", 1, 4, int_contents=[300])]},
    "the input x is missing": {},
    "x has both contents and raw_input_contents": {
        "inputs": [tensor("x", "FP32", 1, 4, fp32_contents=[1])],
        "raw_input_contents": [bytes(16)],
    },
    "the parameter shared_memory_region is not supported": {
        "inputs": [X | {"parameters": {"shared_memory_region": {"string_param": "a"}}}]
    },
}


@pytest.mark.parametrize("text", WRONG)
async def test_a_wrong_request_is_told_what_is_wrong(app: Serving, text: str) -> None:
    assert await refusal(app, "ModelInfer", model_name="late", **WRONG[text]) == ("invalid_value", text)


async def test_raw_parts_must_be_as_many_as_inputs(app: Serving) -> None:
    found = await refusal(app, "ModelInfer", model_name="late", inputs=[X], raw_input_contents=[b"", b""])

    assert found == ("bad_framing", "raw_input_contents has 2 parts for 1 inputs")


async def test_what_there_is_not_is_not_found(app: Serving) -> None:
    missing = ("not_found", "there is no model none")

    assert await refusal(app, "ModelInfer", model_name="none") == missing
    assert await refusal(app, "ModelReady", name="none") == missing
    assert await refusal(app, "ModelMetadata", name="none") == missing


@pytest.mark.parametrize(
    ("method", "fields", "line"),
    [
        ("ModelReady", {"name": "late"}, ("late", "1", 200)),
        ("ModelMetadata", {"name": "late", "version": "1"}, ("late", "1", 200)),
        ("ModelMetadata", {"name": "nobody"}, ("nobody", "", 404)),
        ("ModelMetadata", {"name": "late", "version": "77"}, ("late", "77", 404)),
        ("ModelInfer", {"model_name": "words", "inputs": []}, ("words", "1", 422)),
        ("ModelInfer", {"model_name": "n" * 500}, ("n" * 128, "", 404)),
        ("ServerLive", {}, (None, None, 200)),
    ],
)
async def test_the_access_log_names_model_and_version(
    app: Serving, method: str, fields: dict[str, Any], line: tuple[Any, ...]
) -> None:
    name = uuid7()
    with contextlib.suppress(aio.AioRpcError):
        await call(app, method, named=name, **fields)

    found = await logged(app, name)
    assert (found.get("model"), found.get("version"), found["status"]) == line


async def test_a_prediction_is_logged_with_the_version_that_answered(app: Serving) -> None:
    tensors = [tensor("x", "FP32", 1, 4, fp32_contents=[1, 2, 3, 4])]
    answered, _ = await call(app, "ModelInfer", named="log-answered", model_name="late", inputs=tensors)

    line = await logged(app, "log-answered")
    assert (line["model"], line["version"]) == ("late", answered.model_version)
    assert (line["method"], line["tenant"], line["status"]) == ("GRPC", "default", 200)


async def logged(app: Serving, request_id: str) -> dict[str, Any]:
    """The call's line in the access log."""

    def line() -> Any:
        lines = (app.house.runtime.home / "logs" / "access.log").read_text().splitlines()
        return next((found for found in map(json.loads, lines) if found["request_id"] == request_id), None)

    found: dict[str, Any] = await until(line)
    return found


async def test_keys_count_here_as_well(app: Serving) -> None:
    assert (await refusal(app, "ServerLive", "none"))[0] in ("unauthenticated", "token_invalid")
    assert (await refusal(app, "ModelReady", await app.new_key("models.get"), name="late"))[0] == "forbidden"
    other = await app.new_key("models.infer", tenant="elsewhere")
    assert (await refusal(app, "ModelReady", other, name="late"))[0] == "not_found"


def triton_input(kind: Any, rows: np.ndarray[Any, Any]) -> Any:
    found = kind.InferInput("x", list(rows.shape), "FP32")
    found.set_data_from_numpy(rows)
    return found


@pytest.mark.parametrize("binary", [True, False])
async def test_a_stock_http_client_gets_the_same_bits(app: Serving, binary: bool) -> None:
    headers = {"Authorization": f"Bearer {app.key}"}

    def ask() -> tuple[Any, dict[str, Any]]:
        client = triton_http.InferenceServerClient(app.doors["http"].removeprefix("http://"))
        assert client.is_server_live(headers)
        assert client.is_model_ready("late", headers=headers)
        data = triton_http.InferInput("x", list(ROWS.shape), "FP32")
        data.set_data_from_numpy(ROWS, binary_data=binary)
        wanted = [triton_http.InferRequestedOutput("probability", binary_data=binary)]
        found = client.infer("late", [data], outputs=wanted, request_id="t", headers=headers)
        with pytest.raises(InferenceServerException, match="there is no model none"):
            client.infer("none", [data], headers=headers)
        client.close()
        return found.as_numpy("probability"), found.get_response()

    values, response = await asyncio.to_thread(ask)
    raw, _ = await call(
        app, "ModelInfer", model_name="late", inputs=[tensor("x", "FP32", 300, 4)], raw_input_contents=[ROWS.tobytes()]
    )
    assert values.tobytes() == raw.raw_output_contents[0]
    assert (response["id"], response["model_version"]) == ("t", "1")


async def test_a_stock_http_client_needs_no_outputs_named(app: Serving) -> None:
    def ask() -> Any:
        client = triton_http.InferenceServerClient(app.doors["http"].removeprefix("http://"))
        headers = {"Authorization": f"Bearer {app.key}"}
        found = client.infer("late", [triton_input(triton_http, ROWS)], headers=headers).as_numpy("probability")
        client.close()
        return found

    assert (await asyncio.to_thread(ask)).shape == (300, 1)


async def test_a_stock_grpc_client_is_served(app: Serving) -> None:
    headers = {"authorization": f"Bearer {app.key}"}
    async with triton_aio.InferenceServerClient(app.doors["grpc"]) as client:
        assert await client.is_server_ready(headers)
        assert (await client.get_model_metadata("late", headers=headers)).name == "late"
        found = await client.infer("late", [triton_input(triton_grpc, ROWS)], request_id="g", headers=headers)

        assert found.as_numpy("probability").shape == (300, 1)
        assert found.get_response().id == "g"
        with pytest.raises(InferenceServerException, match="late has no version 7 that is loaded") as caught:
            await client.infer("late", [triton_input(triton_grpc, ROWS)], model_version="7", headers=headers)
        assert caught.value.status() == str(grpc.StatusCode.NOT_FOUND)
