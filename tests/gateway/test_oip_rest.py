"""The Open Inference Protocol over HTTP, on a running house."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from services.kit.event import TELEMETRY
from tests.gateway.serving import Serving, serving
from tests.support.models import logistic, lookup, texts

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROW = [0.5, -1.25, 2.0, 0.125]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("home")) as found:
        await found.serve("late", logistic(4, 1))
        await found.serve("late", logistic(4, 2))
        await found.serve("words", texts())
        await found.serve("table", lookup())
        yield found


def body(data: Any, shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    """A request of `late`."""
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape or [1, 4], "data": data}], **more}


async def refusal(app: Serving, content: Any, path: str = "/v2/models/late/infer", **headers: str) -> tuple[str, str]:
    """Code and detail of a problem document."""
    answer = await app.post(path, content, **headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["error"] == problem["detail"]
    return problem["code"], problem["detail"]


async def test_the_server_says_what_it_is(app: Serving) -> None:
    found = (await app.get("/v2")).json()

    assert found["name"] == "aimass"
    assert found["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/late/ready"])
async def test_what_is_there_is_ready(app: Serving, path: str) -> None:
    assert (await app.get(path)).status_code == 200


async def test_health_needs_a_key(app: Serving) -> None:
    assert (await app.get("/v2/health/live", key="none")).status_code == 401


async def test_a_model_says_what_it_takes_and_gives(app: Serving) -> None:
    assert (await app.get("/v2/models/late")).json() == {
        "name": "late",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "probability", "datatype": "FP32", "shape": [-1, 1]}],
    }
    assert (await app.get("/v2/models/late/versions/1")).json()["versions"] == ["1"]


async def test_a_row_is_answered_and_the_answer_names_its_version(app: Serving) -> None:
    answer = await app.post("/v2/models/late/infer", body(ROW, id="mine"), x_request_id="r-17")

    found = answer.json()
    [output] = found.pop("outputs")
    assert found == {"model_name": "late", "model_version": "2", "id": "mine"}
    assert (output["name"], output["datatype"], output["shape"]) == ("probability", "FP32", [1, 1])
    assert answer.headers["model-version"].startswith("2;digest=sha256:")
    assert answer.headers["x-request-id"] == "r-17"


async def test_an_older_version_answers_who_names_it(app: Serving) -> None:
    answer = await app.post("/v2/models/late/versions/1/infer", body(ROW))

    assert answer.json()["model_version"] == "1"


async def test_nested_and_flat_data_are_the_same(app: Serving) -> None:
    flat = await app.post("/v2/models/late/infer", body(ROW + ROW, [2, 4]))
    nested = await app.post("/v2/models/late/infer", body([ROW, ROW], [2, 4]))

    assert flat.json() == nested.json()


async def test_bits_survive_json(app: Serving) -> None:
    rows = np.random.default_rng(1).normal(size=(500, 4)).astype("<f4")
    asked = {"name": "x", "datatype": "FP32", "shape": [500, 4], "parameters": {"binary_data_size": rows.nbytes}}
    head = json.dumps({"inputs": [asked], "parameters": {"binary_data_output": True}}).encode()
    binary = await app.post(
        "/v2/models/late/infer", head + rows.tobytes(), inference_header_content_length=str(len(head))
    )
    size = int(binary.headers["inference-header-content-length"])
    text = await app.post("/v2/models/late/infer", body(rows.tolist(), [500, 4]))

    assert json.loads(binary.content[:size])["outputs"][0]["parameters"] == {"binary_data_size": 2000}
    assert np.array(text.json()["outputs"][0]["data"], "<f4").tobytes() == binary.content[size:]


async def test_many_rows_are_the_same_one_by_one(app: Serving) -> None:
    rows = np.random.default_rng(2).normal(size=(40, 4)).astype("<f4").tolist()
    together = (await app.post("/v2/models/late/infer", body(rows, [40, 4]))).json()["outputs"][0]["data"]

    alone = [(await app.post("/v2/models/late/infer", body(row))).json()["outputs"][0]["data"][0] for row in rows]
    assert alone == together


async def test_an_output_goes_out_as_it_is_asked_for(app: Serving) -> None:
    wanted = [{"name": "probability", "parameters": {"binary_data": True}}]
    answer = await app.post("/v2/models/late/infer", body(ROW, outputs=wanted))

    size = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert 0 < struct.unpack("<f", answer.content[size:])[0] < 1


async def test_null_is_a_missing_number_and_an_answer_that_is_none_is_null(app: Serving) -> None:
    answer = await app.post("/v2/models/late/infer", body([None, 0, 0, 0]))

    assert answer.json()["outputs"][0]["data"] == [None]


async def test_strings_go_in_and_out(app: Serving) -> None:
    asked = {"name": "s0", "datatype": "BYTES", "shape": [3, 1], "data": [["blåbär"], [None], ["x"]]}
    answer = await app.post("/v2/models/words/infer", {"inputs": [asked]})

    assert answer.json()["outputs"][0]["data"] == ["blåbär", "", "x"]


async def test_integers_stay_integers(app: Serving) -> None:
    asked = {"name": "i", "datatype": "INT64", "shape": [2], "data": [4, 1]}

    assert (await app.post("/v2/models/table/infer", {"inputs": [asked]})).json()["outputs"][0]["data"] == [1.0, 0.25]


async def test_what_the_engine_refuses_is_the_callers_error_alone(app: Serving) -> None:
    asked = {"name": "i", "datatype": "INT64", "shape": [1], "data": [99]}

    assert (await app.post("/v2/models/table/infer", {"inputs": [asked]})).status_code in (400, 422)


WRONG = {
    "x is FP32: its values must be numbers, not a string": body(["1", 2, 3, 4]),
    "x is FP32: its values must be numbers, not true": body([True, 2, 3, 4]),
    "x is FP32: one of its values is out of range": body([1e300, 2, 3, 4]),
    "x has 3 values, its shape [1, 4] needs 4": body([1, 2, 3]),
    "the data of x is ragged or not of the shape [2, 4]": body([[1, 2, 3, 4], [1, 2, 3]], [2, 4]),
    "the data of x must be a list": body("1"),
    "x must have the shape [-1, 4], not [4, 1]": body(ROW, [4, 1]),
    "x must have at least one row": body([], [0, 4]),
    "the shape of x must be a list of at most 8 sizes": body(ROW, [-1, 4]),
    "there is no field colour": body(ROW, colour="red"),
    "id must be a string of at most 256 characters": body(ROW, id=5),
    "the model has no output q": body(ROW, outputs=[{"name": "q"}]),
    "the parameter classification is not supported": body(ROW, parameters={"classification": 2}),
    "inputs must be a list with at least one tensor": {"inputs": []},
    "the body must be an object": [1],
    "/inputs/0 must be an object": {"inputs": [1]},
    "x must be FP32, not FP64": {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 4], "data": ROW}]},
    "x has the unknown datatype FP31": {"inputs": [{"name": "x", "datatype": "FP31", "shape": [1, 4], "data": ROW}]},
    "the model takes no input y (and 1 more)": {
        "inputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": ROW}]
    },
    "outputs must be a list": body(ROW, outputs={}),
    "parameters must be an object": body(ROW, parameters=[]),
}


@pytest.mark.parametrize("text", WRONG)
async def test_a_wrong_request_is_told_what_is_wrong(app: Serving, text: str) -> None:
    assert await refusal(app, WRONG[text]) == ("invalid_value", text)


@pytest.mark.parametrize("content", [b"", b"{", b"NaN", b'{"id": "\\ud800"}', b"[" * 100_000, b"1" * 5000, b"\xff"])
async def test_what_is_not_json_is_refused(app: Serving, content: bytes) -> None:
    assert (await refusal(app, content))[0] in ("malformed_json", "bad_framing")


@pytest.mark.parametrize("size", ["0", "999999", "x", "-1"])
async def test_a_wrong_length_of_the_json_part_is_refused(app: Serving, size: str) -> None:
    assert (await refusal(app, body(ROW), inference_header_content_length=size))[0] == "bad_framing"


@pytest.mark.parametrize("size", [15, 17, -1, "16"])
async def test_binary_parts_must_fill_the_body(app: Serving, size: Any) -> None:
    asked = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [asked]}).encode()

    found = await refusal(app, head + bytes(16), inference_header_content_length=str(len(head)))
    assert found[0] == "bad_framing"


async def test_an_unknown_model_is_not_found(app: Serving) -> None:
    assert await refusal(app, body(ROW), "/v2/models/none/infer") == ("not_found", "there is no model none")


async def test_a_version_that_is_not_loaded_is_not_found(app: Serving) -> None:
    found = await refusal(app, body(ROW), "/v2/models/late/versions/9/infer")

    assert found == ("not_found", "late has no version 9 that is loaded")


@pytest.mark.parametrize("path", ["/v2/x", "/v2/models", "/v2/models/late/x", "/v2/models/late/versions/1/x"])
async def test_an_unknown_path_is_not_found(app: Serving, path: str) -> None:
    assert (await app.get(path)).json()["code"] == "not_found"


async def test_a_wrong_method_is_refused(app: Serving) -> None:
    assert (await app.get("/v2/models/late/infer")).status_code == 405
    assert (await app.post("/v2", b"")).status_code == 405


async def test_a_wrong_content_type_is_refused(app: Serving) -> None:
    assert (await refusal(app, body(ROW), content_type="text/csv"))[0] == "unsupported_media_type"


@pytest.mark.parametrize("seconds", ["x", "0", "nan", "-1", "inf"])
async def test_a_wrong_timeout_is_refused(app: Serving, seconds: str) -> None:
    assert (await refusal(app, body(ROW), x_request_timeout=seconds))[0] == "invalid_value"


async def test_a_key_without_the_permission_is_refused(app: Serving) -> None:
    key = await app.new_key("models.get")

    assert (await app.post("/v2/models/late/infer", body(ROW), key)).status_code == 403
    assert (await app.get("/v2/models/late", key)).status_code == 403


async def test_another_tenant_sees_no_model(app: Serving) -> None:
    key = await app.new_key("models.infer", tenant="other")

    assert (await app.post("/v2/models/late/infer", body(ROW), key)).status_code == 404


async def test_ten_thousand_rows_fit_into_one_request(app: Serving) -> None:
    rows = np.random.default_rng(4).normal(size=(10_000, 4)).astype("<f4")
    answer = await app.post("/v2/models/late/infer", body(rows.ravel().tolist(), [10_000, 4]))

    [output] = answer.json()["outputs"]
    assert output["shape"] == [10_000, 1]
    [alone] = (await app.post("/v2/models/late/infer", body(rows[-1].tolist()))).json()["outputs"]
    assert alone["data"] == output["data"][-1:]


async def test_what_is_too_large_is_refused(app: Serving) -> None:
    assert (await refusal(app, b" " * (4 * 2**20 + 1)))[0] == "body_too_large"


async def test_no_request_fails_while_versions_are_promoted(app: Serving) -> None:
    seen: set[str] = set()

    async def keep_asking() -> None:
        async with app.client() as client:
            while len(seen) < 2 or not switched.is_set():
                answer = await client.post("/v2/models/turns/infer", json=body(ROW))
                assert answer.status_code == 200, answer.text
                assert answer.headers["model-version"].startswith(f"{answer.json()['model_version']};")
                seen.add(answer.json()["model_version"])

    switched = asyncio.Event()
    await app.serve("turns", logistic(4, 3))
    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        for _ in range(3):
            group.create_task(keep_asking())
        await app.serve("turns", logistic(4, 4))
        await app.promote("turns", 1)
        switched.set()
    assert seen == {"1", "2"}


async def test_who_comes_back_to_a_stream_sees_the_state_that_is_now(app: Serving) -> None:
    listed = (await app.get("/v1/operations?service=registry")).json()["operations"]
    path = f"/v1/operations/{listed[0]['operation']}:stream"
    async with app.client() as client:
        first = await client.get(path)
        again = await client.get(path, headers={"last-event-id": "whatever was last"})

    assert first.text == again.text
    assert '"state":"OPERATION_STATE_SUCCEEDED"' in again.text


async def test_a_prediction_is_told_once_and_is_in_its_callers_trace(app: Serving) -> None:
    runtime = app.house.runtime
    reader = await runtime.bus.reader([TELEMETRY], "test", from_end=True)
    parent = f"00-{'c' * 32}-{'d' * 16}-01"
    assert (
        await app.post("/v2/models/late/infer", body(ROW), x_request_id="told-1", traceparent=parent)
    ).status_code == 200
    assert (await app.post("/v2/models/late/infer", {}, x_request_id="told-2")).status_code == 422

    told: list[LogRecord] = []
    while len(told) < 2:
        await runtime.telemetry.flush()
        for event in await asyncio.wait_for(reader.poll(10), 5):
            if event.type.endswith("ExportLogsServiceRequest"):
                [batch] = ExportLogsServiceRequest.FromString(event.body).resource_logs
                told += [one for one in batch.scope_logs[0].log_records if said(one, "request_id").startswith("told-")]

    told.sort(key=lambda one: said(one, "request_id"))
    assert [(said(one, "aimass.kind"), said(one, "request_id")) for one in told] == [
        ("prediction", "told-1"),
        ("log", "told-2"),
    ]
    assert told[0].trace_id.hex() == "c" * 32
    assert said(told[0], "principal").startswith("key:")


def said(record: LogRecord, key: str) -> str:
    return next((pair.value.string_value for pair in record.attributes if pair.key == key), "")
