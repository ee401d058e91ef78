"""What callers see when there is too much to do: through both doors, and on the short way."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import aio

from services.gateway.overload import gate as gates
from services.gateway.overload.gradient import Bounds, Gradient
from services.gateway.overload.priority import Priority, lowered, priority
from services.gateway.traffic import lanes
from services.gateway.traffic.coalescing import Coalescer
from services.gateway.traffic.engines import Inference
from services.kit import contract
from services.kit.errors import InvalidValue
from tests.gateway.serving import Serving, serving
from tests.gateway.test_oip_grpc import refusal
from tests.gateway.test_repeats import BODY, PATH, ROW, Caller
from tests.support.house import until
from tests.support.models import logistic

pytestmark = pytest.mark.asyncio(loop_scope="module")
ONE = Bounds(least=1, most=1, start=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """A gateway that has one prediction of a version under way, and one wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "VERSION", ONE)
        async with serving(tmp_path_factory.mktemp("home")) as found:
            await found.serve("late", logistic(4, 1))
            yield found


class Held:
    """Keeps all calls of engines waiting until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = self.waiting = 0
        self.go, run, enqueue = asyncio.Event(), Inference.infer, Coalescer._enqueue

        async def slow(inference: Inference, *asked: Any) -> Any:
            self.begun += 1
            await self.go.wait()
            return await run(inference, *asked)

        def waits(coalescer: Coalescer, *asked: Any) -> Any:
            found = enqueue(coalescer, *asked)
            self.waiting += 1
            return found

        monkeypatch.setattr(Inference, "infer", slow)
        monkeypatch.setattr(Coalescer, "_enqueue", waits)

    async def fill(self, app: Serving, **headers: str) -> list["asyncio.Task[Any]"]:
        """One prediction is under way, and one with some headers waits."""
        tasks = [asyncio.create_task(app.post(PATH, ROW))]
        await until(lambda: self.begun == 1)
        before = self.waiting
        tasks.append(asyncio.create_task(app.post(PATH, ROW, **headers)))
        await until(lambda: self.waiting > before)
        return tasks


@pytest_asyncio.fixture(loop_scope="module")
async def busy(app: Serving, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """All that may be asked is asked."""
    held = Held(monkeypatch)
    tasks = await held.fill(app)
    yield
    held.go.set()
    assert [(await task).status_code for task in tasks] == [200, 200]


async def test_more_than_may_wait_is_told_to_come_again(app: Serving, busy: None) -> None:
    answer = await app.post(PATH, ROW)

    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) in (1, 2)
    assert answer.json()["detail"] == "late has too many requests waiting"


async def test_what_is_refused_is_not_read(app: Serving, busy: None) -> None:
    async with Caller(app, "", PATH, "X-Of: unread") as caller:
        await caller.write(caller.head(100_000))  # and nothing behind it

        assert (await caller.answer())[0] == 503


async def test_who_calls_over_grpc_hears_the_same(app: Serving, busy: None) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 2, 3, 4]}}

    refused = await refusal(app, "ModelInfer", model_name="late", inputs=[tensor])
    assert refused == ("overloaded", "late has too many requests waiting")


async def test_a_head_that_is_known_is_refused_as_well(app: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Caller(app, "", PATH, "X-Of: known") as caller:
        assert (await caller.ask())[0] == 200
        held = Held(monkeypatch)
        others = await held.fill(app)
        status, headers, body = await caller.ask()
        held.go.set()
        await asyncio.gather(*others)

    assert (status, json.loads(body)["code"]) == (503, "overloaded")
    assert int(headers["retry-after"]) in (1, 2)


async def test_a_prediction_takes_the_place_of_batch_work(app: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    first, batch = await held.fill(app, x_priority="batch")
    urgent = asyncio.create_task(app.post(PATH, ROW))

    assert (await batch).json()["code"] == "overloaded"
    held.go.set()
    assert [(await one).status_code for one in (first, urgent)] == [200, 200]


async def test_a_priority_that_is_none_is_refused(app: Serving) -> None:
    answer = await app.post(PATH, ROW, x_priority="first")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value")
    assert "X-Priority must be one of admin, interactive, write, batch, search" in answer.text


async def test_a_deadline_that_cannot_be_met_is_refused_before_anything_is_asked(
    app: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gradient, "hopeless", lambda self, kind, left: left < 1)
    answer = await app.post(PATH, BODY, x_request_timeout="0.5")

    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert (await app.post(PATH, BODY, x_request_timeout="5")).status_code == 200


async def test_a_service_with_too_many_calls_is_said_to_be_overloaded(
    app: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "SERVICE", Bounds(least=0, most=0, start=0))
    answer = await app.get("/v1/engines")

    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.json()["detail"] == "inference has too many requests waiting"
    assert int(answer.headers["retry-after"]) in (1, 2)


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("Access/ListTenants", Priority.ADMIN),
        ("Models/GetModel", Priority.INTERACTIVE),
        ("Models/CreateModel", Priority.WRITE),
        ("Jobs/SubmitJob", Priority.BATCH),
        ("Logs/SearchLogs", Priority.SEARCH),
        ("DataSets/QueryDataSets", Priority.SEARCH),
    ],
)
async def test_the_contract_says_what_goes_first(path: str, first: Priority) -> None:
    assert priority(contract.all_methods()[f"/aimass.v1.{path}"]) is first


@pytest.mark.parametrize(
    ("own", "said", "found"),
    [
        (Priority.INTERACTIVE, "", Priority.INTERACTIVE),
        (Priority.INTERACTIVE, "batch", Priority.BATCH),
        (Priority.SEARCH, "admin", Priority.SEARCH),
        (Priority.WRITE, "Interactive", Priority.WRITE),
    ],
)
async def test_a_caller_lowers_his_priority_and_never_raises_it(own: Priority, said: str, found: Priority) -> None:
    assert lowered(own, said) is found
    with pytest.raises(InvalidValue):
        lowered(own, "now")


async def test_grpc_takes_the_priority_from_the_metadata(app: Serving) -> None:
    async with aio.insecure_channel(app.doors["grpc"]) as channel:
        call: Any = channel.unary_unary("/aimass.v1.Models/ListModels")
        metadata = (("authorization", f"Bearer {app.key}"), ("x-priority", "never"))
        with pytest.raises(aio.AioRpcError) as caught:
            await call(b"", metadata=metadata)

        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await call(b"", metadata=(metadata[0], ("x-priority", "batch")))
