"""Predictions beside budgets: each counts once, whichever door it came by, and none goes beyond what is left."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio
from grpc import aio

from aimass.v1.gateway_events_pb2 import UsageSettled
from services.gateway.api.oip_messages import SERVICE, message
from services.gateway.repeats import Repeats
from tests.gateway.serving import Serving, serving
from tests.gateway.test_repeats import Caller
from tests.support.house import until
from tests.support.models import logistic

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH = "/v2/models/late/infer"


def asked(rows: int = 1) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": [0.5] * 4 * rows}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("home")) as found:
        await found.serve("late", logistic(4, 1))
        await found.serve("other", logistic(4, 2))
        yield found


async def quota(app: Serving, name: str, **wanted: Any) -> dict[str, Any]:
    what = {"quota": name, "meter": "METER_REQUESTS", "period": "PERIOD_TOTAL"} | wanted
    async with app.client() as admin:
        answer = await admin.post("/v1/quotas", json=what)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def used(app: Serving, key: str, **also: str) -> dict[str, int]:
    """What the ledger has of a key: requests, rows and lines."""
    params = {"principal": f"key:{key[4:12]}"} | also
    async with app.client() as client:
        rows = (await client.get("/v1/usage", params=params)).json()["rows"]
    assert len(rows) <= 1
    found = {"requests": 0, "rows": 0} | (rows[0]["used"] if rows else {})
    return {"requests": int(found["requests"]), "rows": int(found["rows"])}


async def settled(app: Serving, key: str, requests: int, **also: str) -> dict[str, int]:
    """The same once so many requests are in it, and no more come."""

    async def there() -> Any:
        found = await used(app, key, **also)
        return found if found["requests"] >= requests else None

    return dict(await until(there, 20))


async def by_grpc(app: Serving, key: str, rows: int, **fields: str) -> Any:
    async with aio.insecure_channel(app.doors["grpc"]) as channel:
        reply = message("ModelInferResponse")
        stub: Any = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", lambda sent: sent.SerializeToString(), reply.FromString
        )
        values = {"fp32_contents": [0.5] * 4 * rows}
        inputs = [{"name": "x", "datatype": "FP32", "shape": [rows, 4], "contents": values}]
        request = message("ModelInferRequest")(model_name="late", inputs=inputs)
        named = [(name.replace("_", "-"), value) for name, value in fields.items()]
        return await stub(request, metadata=(("authorization", f"Bearer {key}"), *named))


async def test_each_prediction_counts_once_whichever_door_it_came_by(app: Serving) -> None:
    key = await app.new_key("models.infer")
    for _ in range(2):
        assert (await app.post(PATH, asked(3), key)).status_code == 200
    for _ in range(3):
        await by_grpc(app, key, 5)
    async with Caller(app, key) as caller:
        for _ in range(4):  # all but the first by the short way
            assert (await caller.ask(json.dumps(asked(7)).encode()))[0] == 200

    assert await settled(app, key, 9) == {"requests": 9, "rows": 2 * 3 + 3 * 5 + 4 * 7}
    await asyncio.sleep(1)
    assert await used(app, key, model="late", kind="serving") == {"requests": 9, "rows": 49}
    assert await used(app, key, model="other") == {"requests": 0, "rows": 0}


async def test_what_fails_costs_nothing(app: Serving) -> None:
    key = await app.new_key("models.infer")
    wrong = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0.5] * 3}]}

    assert (await app.post(PATH, wrong, key)).status_code == 422
    assert (await app.post("/v2/models/nobody/infer", asked(), key)).status_code == 404
    assert (await app.post(PATH, asked(), key)).status_code == 200
    assert await settled(app, key, 1) == {"requests": 1, "rows": 1}


async def test_a_budget_admits_just_what_it_says_and_names_itself(app: Serving) -> None:
    key = await app.new_key("models.infer")
    await quota(app, "forty", subject=f"key:{key[4:12]}", amount=40)
    answers = [await app.post(PATH, asked(), key) for _ in range(50)]
    codes = [answer.status_code for answer in answers]
    problem = answers[-1].json()

    assert codes == [200] * 40 + [429] * 10
    assert problem["code"] == "quota_exceeded"
    assert problem["detail"] == (
        f"quota forty of key {key[4:12]}: 0 of 40 requests are neither spent nor reserved, 1 are needed"
    )
    assert "retry-after" not in answers[-1].headers  # it never comes back
    assert await settled(app, key, 40) == {"requests": 40, "rows": 40}


async def test_many_callers_at_once_get_no_more_than_there_is(app: Serving) -> None:
    key = await app.new_key("models.infer")
    await quota(app, "crowd", subject=f"key:{key[4:12]}", amount=100)

    async def ask(client: httpx2.AsyncClient, model: str) -> int:
        path = f"/v2/models/{model}/infer"
        return int((await client.post(path, json=asked())).status_code)

    async with app.client(key) as client:
        codes: list[int] = []
        for _ in range(8):
            codes += await asyncio.gather(*(ask(client, model) for model in ("late", "other") for _ in range(10)))

    assert set(codes) == {200, 429}
    assert codes.count(200) <= 100
    assert (await settled(app, key, codes.count(200)))["requests"] == codes.count(200)


async def test_over_grpc_it_is_refused_alike(app: Serving) -> None:
    key = await app.new_key("models.infer")
    await quota(app, "none", subject=f"key:{key[4:12]}", amount=0)

    with pytest.raises(aio.AioRpcError) as caught:
        await by_grpc(app, key, 1)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "quota none of key" in (caught.value.details() or "")


async def test_the_short_way_meets_the_same_budget(app: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await app.new_key("models.infer")
    await quota(app, "short", subject=f"key:{key[4:12]}", amount=20)
    taken, begin = [], Repeats.take

    def watched(self: Repeats, connection: Any, data: bytes) -> Any:
        found = begin(self, connection, data)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(Repeats, "take", watched)
    async with Caller(app, key) as caller:
        answers = [await caller.ask(json.dumps(asked()).encode()) for _ in range(30)]

    assert [status for status, *_ in answers] == [200] * 20 + [429] * 10
    assert sum(taken) >= 29


async def test_rows_are_a_budget_of_their_own(app: Serving) -> None:
    key = await app.new_key("models.infer")
    await quota(app, "rows", subject=f"key:{key[4:12]}", meter="METER_ROWS", amount=100)
    first, second, third = [await app.post(PATH, asked(rows), key) for rows in (90, 20, 10)]

    assert (first.status_code, second.status_code, third.status_code) == (200, 429, 200)
    assert "10 of 100 rows are neither spent nor reserved, 20 are needed" in second.json()["detail"]


async def test_tokens_that_callers_state_are_a_budget_of_their_own_at_every_door(app: Serving) -> None:
    key = await app.new_key("models.infer")
    await quota(app, "tokens", subject=f"key:{key[4:12]}", meter="METER_TOKENS", amount=1000)
    async with Caller(app, key, PATH, "X-Tokens: 100") as caller:
        short = [await caller.ask(json.dumps(asked()).encode()) for _ in range(6)]
    await by_grpc(app, key, 1, x_tokens="250")
    over, last = [await app.post(PATH, asked(), key, x_tokens=tokens) for tokens in ("200", "150")]
    none = await app.post(PATH, asked(), key)
    with pytest.raises(aio.AioRpcError) as caught:
        await by_grpc(app, key, 1, x_tokens="1")

    assert [status for status, *_ in short] == [200] * 6
    assert [over.status_code, last.status_code, none.status_code] == [429, 200, 200]
    assert "150 of 1000 tokens are neither spent nor reserved, 200 are needed" in over.json()["detail"]
    assert "0 of 1000 tokens" in (caught.value.details() or "")
    await settled(app, key, 9)
    async with app.client() as client:
        (row,) = (await client.get("/v1/usage", params={"principal": f"key:{key[4:12]}"})).json()["rows"]
        found = (await client.get("/v1/quotas/tokens")).json()
    assert (row["used"]["requests"], row["used"]["tokens"], found["spent"]) == ("9", "1000", "1000")


async def test_tokens_of_who_has_no_budget_are_counted_as_well(app: Serving) -> None:
    key = await app.new_key("models.infer")
    answers = [await app.post(PATH, asked(), key, x_tokens="70") for _ in range(10)]
    await settled(app, key, 10)
    async with app.client() as client:
        (row,) = (await client.get("/v1/usage", params={"principal": f"key:{key[4:12]}"})).json()["rows"]

    assert [answer.status_code for answer in answers] == [200] * 10
    assert row["used"]["tokens"] == "700"


async def test_more_budget_counts_at_once(app: Serving) -> None:
    key = await app.new_key("models.infer")
    made = await quota(app, "grows", subject=f"key:{key[4:12]}", amount=1)
    seen = [(await app.post(PATH, asked(), key)).status_code for _ in range(2)]
    async with app.client(**{"if-match": made["etag"]}) as admin:
        await admin.patch("/v1/quotas/grows", json={"amount": 3})
    seen += [(await app.post(PATH, asked(), key)).status_code for _ in range(3)]

    assert seen == [200, 429, 200, 200, 429]


async def test_what_was_spent_is_told_to_who_has_the_budget_as_it_was_made(app: Serving) -> None:
    key = await app.new_key("models.infer")
    made = await quota(app, "watched", subject=f"key:{key[4:12]}", amount=5)
    await app.post(PATH, asked(), key)
    await settled(app, key, 1)
    async with app.client(**{"if-none-match": f'"{made["etag"]}"'}) as admin:
        answer = await admin.get("/v1/quotas/watched")

    assert (answer.status_code, answer.headers["etag"]) == (200, f'"{made["etag"]}"')
    assert answer.json()["spent"] == "1"


async def test_what_is_settled_is_said_and_adds_up(app: Serving) -> None:
    key = await app.new_key("models.infer")
    for rows in (1, 2, 3):
        assert (await app.post(PATH, asked(rows), key)).status_code == 200
    ledger = await settled(app, key, 3)
    told: dict[str, Any] = {}
    reader = await app.house.runtime.bus.reader(["aimass.gateway.v1"], "test-usage")
    async with asyncio.timeout(20):
        while sum(e.used.requests for e in told.values() if e.principal == f"key:{key[4:12]}") < 3:
            for event in await reader.poll(100):
                if event.type == UsageSettled.DESCRIPTOR.full_name:
                    one = UsageSettled.FromString(event.body).entry
                    told[one.entry] = one
    mine = [one for one in told.values() if one.principal == f"key:{key[4:12]}"]

    assert sum(one.used.rows for one in mine) == ledger["rows"] == 6
    assert {(one.model, one.kind, one.tenant, one.estimated) for one in mine} == {("late", "serving", "default", False)}
