"""Texts of predictions behind a filter, by all doors: HTTP read in full, heads that came before, gRPC."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from services.gateway.api.oip_messages import SERVICE, message
from services.kit.status import failure_of
from tests.gateway.serving import Serving, serving
from tests.gateway.test_repeats import Caller
from tests.support.models import texts

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH = "/v2/models/notes/infer"
CANARY = "ask eve@example.com"


def body(*values: str) -> dict[str, Any]:
    return {"inputs": [{"name": "s0", "datatype": "BYTES", "shape": [len(values), 1], "data": list(values)}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("home")) as found:
        await found.serve("notes", texts())
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def masked(app: Serving) -> AsyncIterator[Serving]:
    await switch(app, "PRIVACY_ACTION_MASK")
    yield app
    async with app.client() as client:
        await client.delete("/v1/privacy-filters/mine", headers={"if-match": "*"})


async def switch(app: Serving, action: str) -> None:
    """One filter for all models, with an action."""
    rules = [{"detector": "email", "action": action}]
    async with app.client() as client:
        wanted = {"privacy_filter": "mine", "models": ["*"], "rules": rules}
        if (await client.post("/v1/privacy-filters", json=wanted)).status_code != 200:
            await client.post("/v1/privacy-filters/mine:undelete", json={})
            answer = await client.patch("/v1/privacy-filters/mine", json={"rules": rules}, headers={"if-match": "*"})
            assert answer.status_code == 200, answer.text


def told(answer: Any) -> list[str]:
    return list(answer.json()["outputs"][0]["data"])


async def over_grpc(app: Serving, **fields: Any) -> Any:
    """What a model says over gRPC."""
    request = message("ModelInferRequest")(model_name="notes", **fields).SerializeToString()
    metadata = (("authorization", f"Bearer {app.key}"),)
    async with grpc.aio.insecure_channel(app.doors["grpc"]) as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer", None, message("ModelInferResponse").FromString)
        return await call(request, timeout=10, metadata=metadata)


async def test_texts_are_masked_before_the_model_sees_them(masked: Serving) -> None:
    assert told(await masked.post(PATH, body(CANARY, "nothing"))) == ["ask [email]", "nothing"]


async def test_binary_texts_are_masked(masked: Serving) -> None:
    raw = len(CANARY).to_bytes(4, "little") + CANARY.encode()
    part = {"name": "s0", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [part]}).encode()
    answer = await masked.post(PATH, head + raw, inference_header_content_length=str(len(head)))

    assert told(answer) == ["ask [email]"]


async def test_texts_over_grpc_are_masked_whichever_way_they_come(masked: Serving) -> None:
    part = {"name": "s0", "datatype": "BYTES", "shape": [1, 1]}
    raw = len(CANARY).to_bytes(4, "little") + CANARY.encode()
    typed = await over_grpc(masked, inputs=[part | {"contents": {"bytes_contents": [CANARY.encode()]}}])
    packed = await over_grpc(masked, inputs=[part], raw_input_contents=[raw])

    for answer in (typed, packed):
        assert answer.raw_output_contents[0][4:] == b"ask [email]"


async def test_a_refused_text_is_named_by_its_place_over_both_doors(masked: Serving) -> None:
    await switch(masked, "PRIVACY_ACTION_REFUSE")
    answer = await masked.post(PATH, body("nothing", CANARY))
    part = {"name": "s0", "datatype": "BYTES", "shape": [1, 1], "contents": {"bytes_contents": [CANARY.encode()]}}
    with pytest.raises(grpc.RpcError) as caught:
        await over_grpc(masked, inputs=[part])
    failure = failure_of(caught.value, "gateway")

    assert (answer.status_code, answer.json()["violations"][0]["pointer"]) == (422, "/inputs/0/data/1")
    assert (failure.code.text, failure.violations[0].pointer) == ("invalid_value", "/inputs/0/data/0")
    assert "eve" not in answer.text + failure.detail


async def test_a_head_that_came_before_is_filtered_from_the_moment_there_is_a_filter(app: Serving) -> None:
    content = json.dumps(body(CANARY)).encode()
    async with Caller(app, path=PATH) as caller:
        seen = []
        for turn in range(4):
            if turn == 2:
                await switch(app, "PRIVACY_ACTION_MASK")
            await caller.write(caller.head(len(content)) + content)
            head = await caller.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            seen.append(json.loads(await caller.reader.readexactly(length))["outputs"][0]["data"][0])
    async with app.client() as client:
        await client.delete("/v1/privacy-filters/mine", headers={"if-match": "*"})

    assert seen == [CANARY, CANARY, "ask [email]", "ask [email]"]


async def test_the_filter_of_a_megabyte_leaves_the_loop_free(masked: Serving) -> None:
    turns, longest = 0, 0.0
    loop = asyncio.get_running_loop()

    async def turning() -> None:
        nonlocal turns, longest
        while True:
            begun = loop.time()
            await asyncio.sleep(0.005)
            turns, longest = turns + 1, max(longest, loop.time() - begun)

    watch = asyncio.create_task(turning())
    answer = await masked.post(PATH, body(*["word " * 200 + CANARY] * 1000))
    watch.cancel()

    assert told(answer)[999].endswith("ask [email]")
    assert turns > 5
    assert longest < 1
