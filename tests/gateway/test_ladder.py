"""What answers for a version that cannot: step by step, marked in the reply, the access log and the figures."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from services.gateway.traffic.engines import Inference
from services.gateway.traffic.substitutes import degraded
from services.kit.errors import Code, Failure, Unavailable
from tests.gateway.serving import Serving, serving
from tests.gateway.test_oip_grpc import call
from tests.gateway.test_repeats import PATH, Caller
from tests.support.house import until
from tests.support.models import logistic

pytestmark = pytest.mark.asyncio(loop_scope="module")


def row(*values: float) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": list(values)}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("home")) as found:
        await found.serve("tiny", logistic(4, 9))
        await found.serve("late", logistic(4, 1))
        await found.serve("late", logistic(4, 2), cached_seconds=60, previous_version=True, smaller_model="tiny")
        await found.serve("plain", logistic(4, 3))
        await found.serve("wide", logistic(5, 3), smaller_model="tiny")
        yield found


class Broken:
    """Versions that cannot answer, by model and number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.versions, self.failure, run = set[tuple[str, int]](), Unavailable("the engine is away"), Inference.infer
        broken = self

        async def infer(self: Inference, scope: Any, model: str, version: int, items: Any) -> Any:
            if (model, version) in broken.versions:
                raise broken.failure
            return await run(self, scope, model, version, items)

        monkeypatch.setattr(Inference, "infer", infer)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    return Broken(monkeypatch)


def count(step: str) -> float:
    found: float = degraded.labels(step)._value.get()
    return found


async def test_the_same_question_gets_the_answer_that_was_given_before(app: Serving, broken: Broken) -> None:
    before, asked = count("cached"), await app.post(PATH, row(1, 2, 3, 4))
    broken.versions = {("late", 2)}
    answer = await app.post(PATH, row(1, 2, 3, 4))

    assert "degraded" not in asked.headers
    assert (answer.status_code, answer.headers["degraded"]) == (200, "cached")
    assert answer.headers["model-version"] == asked.headers["model-version"]
    assert answer.json() == asked.json()
    assert count("cached") == before + 1


async def test_another_question_is_answered_by_the_version_before(app: Serving, broken: Broken) -> None:
    broken.versions = {("late", 2)}
    answer, first = (
        await app.post(PATH, row(5, 0, 0, 0)),
        await app.post(f"{PATH[:-6]}/versions/1/infer", row(5, 0, 0, 0)),
    )

    assert (answer.status_code, answer.headers["degraded"]) == (200, "previous-version")
    assert answer.headers["model-version"].startswith("1;digest=sha256:")
    assert answer.json()["outputs"] == first.json()["outputs"]


async def test_then_by_a_smaller_model_which_says_its_name(app: Serving, broken: Broken) -> None:
    broken.versions = {("late", 2), ("late", 1)}
    answer, own = await app.post(PATH, row(6, 0, 0, 0)), await app.post("/v2/models/tiny/infer", row(6, 0, 0, 0))

    assert (answer.status_code, answer.headers["degraded"]) == (200, "smaller-model")
    assert answer.json()["model_name"] == "tiny"
    assert answer.json()["outputs"] == own.json()["outputs"]


@pytest.mark.parametrize("code", [Code.OVERLOADED, Code.UNAVAILABLE])
async def test_when_nobody_can_the_request_is_refused(app: Serving, broken: Broken, code: Code) -> None:
    before = count("refused")
    broken.versions = {("late", 2), ("late", 1), ("tiny", 1)}
    broken.failure = Failure(code, "no", retry_after=1)  # type: ignore[assignment]
    answer = await app.post(PATH, row(7, 0, 0, 0))

    assert (answer.status_code, answer.json()["code"]) == (503, code.text)
    assert "degraded" not in answer.headers
    assert count("refused") == before + 1


async def test_other_failures_are_nobody_elses(app: Serving, broken: Broken) -> None:
    broken.versions, broken.failure = {("late", 2)}, Failure(Code.INTERNAL, "a bug")  # type: ignore[assignment]

    assert (await app.post(PATH, row(8, 0, 0, 0))).status_code == 500


async def test_who_names_a_version_gets_no_other(app: Serving, broken: Broken) -> None:
    path = "/v2/models/late/versions/2/infer"
    await app.post(path, row(9, 9, 9, 9))
    broken.versions = {("late", 2)}

    assert (await app.post(path, row(9, 0, 0, 0))).status_code == 503
    assert (await app.post(path, row(9, 9, 9, 9))).headers["degraded"] == "cached"


async def test_a_version_that_says_nothing_is_refused(app: Serving, broken: Broken) -> None:
    await app.post("/v2/models/plain/infer", row(1, 2, 3, 4))
    broken.versions = {("plain", 1)}
    answer = await app.post("/v2/models/plain/infer", row(1, 2, 3, 4))

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_a_smaller_model_that_takes_other_inputs_is_none(app: Serving, broken: Broken) -> None:
    broken.versions = {("wide", 1)}
    wide = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 5], "data": [1, 2, 3, 4, 5]}]}

    assert (await app.post("/v2/models/wide/infer", wide)).status_code == 503


async def test_the_short_way_is_degraded_and_marked_as_well(app: Serving, broken: Broken) -> None:
    known, other = (json.dumps(row(3, digit, 0, 0)).encode() for digit in (1, 2))
    async with Caller(app, "", PATH, "X-Of: ladder") as caller:
        for _ in range(2):
            assert "degraded" not in (await caller.ask(known))[1]
        broken.versions = {("late", 2)}
        cached, previous = await caller.ask(known), await caller.ask(other)
        broken.versions |= {("late", 1), ("tiny", 1)}
        refused = await caller.ask(json.dumps(row(3, 3, 0, 0)).encode())

    assert [(status, headers.get("degraded")) for status, headers, _ in (cached, previous, refused)] == [
        (200, "cached"),
        (200, "previous-version"),
        (503, None),
    ]


async def test_grpc_says_it_in_the_metadata(app: Serving, broken: Broken) -> None:
    broken.versions = {("late", 2)}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [4, 4, 4, 4]}}
    _, metadata = await call(app, "ModelInfer", model_name="late", inputs=[tensor])

    assert metadata["degraded"] == "previous-version"
    assert metadata["model-version"].startswith("1;")


async def test_the_access_log_says_what_answered(app: Serving, broken: Broken) -> None:
    broken.versions = {("late", 2)}
    answer = await app.post(PATH, row(11, 0, 0, 0))
    name, log = answer.headers["x-request-id"], app.house.runtime.home / "logs" / "access.log"
    await until(lambda: name in log.read_text())
    line = next(json.loads(line) for line in log.read_text().splitlines() if name in line)

    assert (line["degraded"], line["version"]) == ("previous-version", "1")


async def test_what_is_cached_is_one_tenants(app: Serving, broken: Broken) -> None:
    await app.post(PATH, row(12, 0, 0, 0))
    key = await app.new_key("models.infer", tenant="other")
    broken.versions = {("late", 2)}

    assert (await app.post(PATH, row(12, 0, 0, 0), key)).status_code == 404


async def test_what_no_instance_has_loaded_is_answered_from_what_was_kept(
    app: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    await app.serve("lonely", logistic(4, 4), cached_seconds=60)
    path = "/v2/models/lonely/infer"
    asked = await app.post(path, row(1, 2, 3, 4))
    lasting = [task.get_coro().cr_frame.f_locals.get("work") for task in asyncio.all_tasks()]  # type: ignore[union-attr]
    table = next(work.__self__._traffic for work in lasting if "TrafficApi.follow" in repr(work))
    found, over, replace = asyncio.Event(), asyncio.Event(), table._replace

    async def later(*arguments: Any) -> None:  # all that is said of it counts when the test is over
        found.set()
        await over.wait()
        await replace(*arguments)

    monkeypatch.setattr(table, "_replace", later)
    try:
        for instance in table._instances:
            for scope, model in list(table._routes):
                if model == "lonely":
                    table.lost(scope, model, 1, instance)
        async with asyncio.timeout(20):
            await found.wait()
        answer, ready = await app.post(path, row(1, 2, 3, 4)), await app.get("/v2/models/lonely/ready")
    finally:
        over.set()

    assert (answer.status_code, answer.headers["degraded"]) == (200, "cached")
    assert answer.json() == asked.json()
    assert ready.status_code == 503
