"""What a filter masks is nowhere: canaries go in by every door, then every store of the installation is searched."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from aimass.v1 import logs_pb2, models_pb2
from aimass.v1.logs_pb2_grpc import LogsStub
from aimass.v1.models_pb2_grpc import ModelsStub
from services.gateway.api.oip_messages import SERVICE, message
from services.kit.auth import Scope
from services.kit.telemetry import Record
from tests.gateway.serving import DOORS, Serving
from tests.support.house import house, until
from tests.support.kept import kept
from tests.support.models import texts

pytestmark = pytest.mark.asyncio(loop_scope="module")
CANARY, CARD, OPEN = "canary.quill@example.com", "4929 1234 5678 9015", "open.quill@example.org"
NUMBER = CARD.replace(" ", "")
BODY = {"inputs": [{"name": "s0", "datatype": "BYTES", "shape": [1, 1], "data": [f"{CANARY} pays by {CARD}"]}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    home = tmp_path_factory.mktemp("privacy")
    async with house(home, "gateway", "registry", "inference", "logs", **DOORS) as running:
        found = Serving(running)
        await found.serve("notes", texts())
        yield found


async def filtered(app: Serving) -> None:
    rules = [{"detector": name, "action": "PRIVACY_ACTION_MASK"} for name in ("email", "card")]
    everywhere: dict[str, Any] = {"methods": ["*"], "models": ["*"], "streams": ["*"], "answers": True}
    wanted = {"privacy_filter": "all", "rules": rules, **everywhere}
    answer = await app.post("/v1/privacy-filters", wanted, content_type="application/json")
    assert answer.status_code == 200, answer.text


async def by_every_door(app: Serving) -> str:
    """Sends the canaries; returns all that was answered."""
    answers = []
    made = {"model": "first", "description": f"of {CANARY}, {CARD}"}
    for path, content in (
        ("/v1/models", made),
        ("/v1/models", {"model": CANARY}),
        ("/v1/models", {"model": "second", CANARY: "x"}),
        ("/v2/models/notes/infer", BODY),
        ("/v2/models/notes/infer", {"inputs": [BODY["inputs"][0] | {"name": CANARY}]}),
        (f"/v2/models/{CANARY}/infer", BODY),
        (f"/v2/models/notes/versions/{CANARY}/infer", BODY),
    ):
        named = {"x_request_id": CARD.replace(" ", "-"), "idempotency_key": f"{CANARY}{path}"}
        answer = await app.post(path, content, content_type="application/json", **named)
        answers += [answer.text, str(answer.headers)]
    raw = len(CANARY).to_bytes(4, "little") + CANARY.encode()
    part = {"name": "s0", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [part]}).encode()
    answers.append(
        (await app.post("/v2/models/notes/infer", head + raw, inference_header_content_length=str(len(head)))).text
    )
    for path in (f"/v1/models/{CANARY}", f"/v1/nowhere/{CANARY}", f"/v1/models?page_token={CANARY}", f"/v2/{CANARY}"):
        answer = await app.get(path)
        answers += [answer.text, str(answer.headers)]
    return "".join([*answers, *await over_grpc(app)])


async def over_grpc(app: Serving) -> list[str]:
    answers = []
    metadata = (("authorization", f"Bearer {app.key}"), ("x-request-id", CARD.replace(" ", "-")))
    requests = [
        ModelsStub, models_pb2.CreateModelRequest(model="third", description=CANARY),
        ModelsStub, models_pb2.CreateModelRequest(model=CANARY),
    ]  # fmt: skip
    async with grpc.aio.insecure_channel(app.doors["grpc"]) as channel:
        for stub, request in zip(requests[::2], requests[1::2], strict=True):
            try:
                answers.append(str(await stub(channel).CreateModel(request, metadata=metadata, timeout=10)))  # type: ignore[operator]
            except grpc.RpcError as error:
                answers.append(str(error))
        contents = {"bytes_contents": [CANARY.encode()]}
        inputs = [{"name": "s0", "datatype": "BYTES", "shape": [1, 1], "contents": contents}]
        for name in ("notes", CANARY):
            infer: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            asked = message("ModelInferRequest")(model_name=name, inputs=inputs).SerializeToString()
            try:
                answers.append((await infer(asked, metadata=metadata, timeout=10)).decode(errors="replace"))
            except grpc.RpcError as error:
                answers.append(str(error))
    return answers


async def having(home: Path, *wanted: str) -> list[str]:
    """The files that have one of the texts, whichever way they hold it."""
    found = []
    for path in sorted(one for one in home.rglob("*") if one.is_file()):
        content = path.read_bytes()
        if any(text.encode() in content or text.encode("utf-16-le") in content for text in wanted):
            found.append(str(path.relative_to(home)))
    records = str(await kept(home))
    assert "Record(" in records
    return found + [f"records: {text}" for text in wanted if text in records]


async def listened(app: Serving, query: str) -> list[logs_pb2.LogRecord]:
    found: list[logs_pb2.LogRecord] = []
    stub = app.house.stub(LogsStub, "logs", tenant="default")

    async def there() -> bool:
        found[:] = (await stub.SearchLogs(logs_pb2.SearchLogsRequest(query=query, page_size=1000))).records
        return bool(found)

    await until(there, 20)
    return found


async def test_canaries_in_requests_are_in_no_answer_and_in_no_store(app: Serving) -> None:
    home, disguises = app.house.runtime.home, (CANARY, CARD, NUMBER, CARD.replace(" ", "-"))
    await filtered(app)
    answers = await by_every_door(app)
    stranger = await app.new_key("*", tenant="without-filter")
    seen = await app.post(
        "/v1/models", {"model": "open", "description": OPEN}, stranger, content_type="application/json"
    )
    await app.house.runtime.telemetry.flush()
    await listened(app, 'name:access AND attributes.path:"/v2/[email]"')
    await listened(app, "kind:event AND name:PrivacyFilterChanged")

    assert "[email] pays by [card]" in answers
    assert [text for text in disguises if text in answers] == []
    assert await having(home, *disguises) == []
    assert OPEN in seen.text
    assert any(name.startswith("registry.db") for name in await having(home, OPEN))  # who has no filter is found


async def test_a_canary_in_a_line_is_in_the_bus_that_brought_it_and_nowhere_else(app: Serving) -> None:
    canary = "line.quill@example.com"
    line = Record("log", "outside", f"end of canaries {canary}", Scope("default"), {"who": canary}, service="trainer")
    app.house.runtime.telemetry.record(line)
    await app.house.runtime.telemetry.flush()
    (last,) = await listened(app, "end AND canaries")

    assert (last.text, last.attributes["who"]) == ("end of canaries [email]", "[email]")
    assert [name for name in await having(app.house.runtime.home, canary) if not name.startswith("bus.db")] == []
