"""Limits of tenants, keys, routes and models: set over REST, kept at every door."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from grpc import StatusCode, aio

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import models_pb2
from services.gateway.limiting import service
from services.kit import contract
from tests.gateway.serving import Serving, serving
from tests.gateway.test_oip_grpc import call, refusal
from tests.gateway.test_repeats import BODY, PATH, Caller
from tests.support.models import logistic

pytestmark = pytest.mark.asyncio(loop_scope="module")
PREDICTIONS = "inference.GRPCInferenceService/ModelInfer"
SLOW = 0.001  # a second: what is spent stays spent
_numbers = iter(range(1000))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("home")) as found:
        await found.serve("late", logistic(4, 1))
        await found.serve("other", logistic(4, 2))
        yield found


async def put(app: Serving, name: str, key: str = "", etag: str = "", **terms: Any) -> httpx2.Response:
    """Sets a limit; level and what it counts by their short names."""
    for field, kind in (("level", "LEVEL"), ("counts", "COUNT")):
        if field in terms:
            terms[field] = f"LIMIT_{kind}_{terms[field].upper()}"
    async with app.client(key, **({"if-match": etag} if etag else {})) as client:
        return await client.put(f"/v1/limits/{name}", json={"rate": SLOW, "burst": 2} | terms)


@pytest_asyncio.fixture(loop_scope="module")
async def limit(app: Serving) -> AsyncIterator[Any]:
    """Sets limits of tenant default that are gone after the test."""
    made: list[str] = []

    async def set_one(**terms: Any) -> str:
        name = f"l{next(_numbers)}"
        answer = await put(app, name, **terms)
        assert answer.status_code == 200, answer.text
        made.append(name)
        return name

    yield set_one
    async with app.client() as client:
        for name in made:
            await client.delete(f"/v1/limits/{name}", headers={"if-match": "*"})


async def predict(app: Serving, key: str, model: str = "late", rows: int = 1, **headers: str) -> httpx2.Response:
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": [0.5, -1.25, 2.0, 0.125] * rows}
    return await app.post(f"/v2/models/{model}/infer", {"inputs": [tensor]}, key, **headers)


async def asked(app: Serving, key: str, times: int, model: str = "late", **more: Any) -> list[int]:
    return [(await predict(app, key, model, **more)).status_code for _ in range(times)]


async def left(app: Serving, key: str) -> int:
    """Tokens in the bucket of a key that is asked for something that has no other limit."""
    return int((await app.get("/v2", key)).headers["ratelimit-remaining"])


async def test_a_limit_is_set_read_listed_and_taken_away(app: Serving) -> None:
    terms: dict[str, Any] = {"level": "model", "counts": "rows", "rate": 10, "burst": 100, "object": "fraud-*"}
    made = (await put(app, "fraud", **terms)).json()
    async with app.client() as client:
        read = (await client.get("/v1/limits/fraud")).json()
        listed = (await client.get("/v1/limits")).json()["limits"]
        gone = await client.delete("/v1/limits/fraud", headers={"if-match": made["etag"]})
        missing = [
            await client.get("/v1/limits/fraud"),
            await client.delete("/v1/limits/fraud", headers={"if-match": "*"}),
        ]

    assert made == read
    assert (made["level"], made["counts"], made["rate"], made["burst"]) == (
        "LIMIT_LEVEL_MODEL",
        "LIMIT_COUNT_ROWS",
        10,
        100,
    )
    assert (made["tenant"], made["imposed"], made["etag"]) == ("default", False, "1")
    assert "fraud" in [one["limit"] for one in listed]
    assert gone.json()["delete_time"]
    assert [answer.status_code for answer in missing] == [404, 404]


async def test_a_limit_is_changed_only_by_who_has_seen_it(app: Serving) -> None:
    first = await put(app, "seen", level="tenant", burst=1000)
    same = await put(app, "seen", level="tenant", burst=1000)
    blind = await put(app, "seen", level="tenant", burst=1001)
    wrong = await put(app, "seen", level="tenant", burst=1001, etag="7")
    right = await put(app, "seen", level="tenant", burst=1001, etag=first.json()["etag"])
    wanted = {"level": "LIMIT_LEVEL_TENANT", "rate": 1, "burst": 1002, "etag": "2"}
    async with app.client() as client:
        field = await client.put("/v1/limits/seen", json=wanted)
        await client.delete("/v1/limits/seen", headers={"if-match": "*"})
    again = await put(app, "seen", level="tenant", burst=1000)
    nothing = await put(app, "seen-never", level="tenant", burst=1000, etag="1")
    async with app.client() as client:
        await client.delete("/v1/limits/seen", headers={"if-match": "*"})

    assert first.json() == same.json()
    assert [blind.status_code, wrong.status_code, right.status_code] == [428, 412, 200]
    assert [answer.json()["etag"] for answer in (right, field, again)] == ["2", "3", "5"]
    assert nothing.status_code == 412


@pytest.mark.parametrize(
    ("terms", "pointer"),
    [
        ({"level": "tenant", "rate": 0.0001}, "/rate"),
        ({"level": "tenant", "burst": 0.5}, "/burst"),
        ({"level": "tenant", "burst": 1e13}, "/burst"),
        ({"level": "tenant", "object": "acme"}, "/object"),
        ({"level": "key", "object": "someone"}, "/object"),
        ({"level": "model", "object": "*"}, "/object"),
        ({"level": "route", "object": "aimass.v1.Nobody/Knows"}, "/object"),
        ({"level": "route", "object": "aimass.v1.Models/*", "counts": "rows"}, "/counts"),
        ({"level": "route", "object": "aimass.v1.Models/*", "counts": "tokens"}, "/counts"),
        ({"rate": 1}, "/level"),
    ],
)
async def test_a_limit_that_means_nothing_is_refused(app: Serving, terms: dict[str, Any], pointer: str) -> None:
    answer = await put(app, "odd", **terms)

    assert answer.status_code == 422
    assert answer.json()["violations"][0]["pointer"] == pointer


async def test_a_tenant_has_so_many_limits_and_no_more(app: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_MOST", 3)
    key = await app.new_key("*", tenant="many")
    seen = [(await put(app, f"m{number}", key, level="tenant", burst=1e6)).status_code for number in range(4)]
    imposed = await put(app, "beside", tenant="many", level="tenant", burst=1e6)

    assert seen == [200] * 3 + [422]
    assert imposed.status_code == 200


async def test_each_model_has_a_bucket_that_all_keys_share(app: Serving, limit: Any) -> None:
    keys = [await app.new_key("models.infer") for _ in range(2)]
    name = await limit(level="model", burst=2)
    seen = [await asked(app, keys[0], 1), await asked(app, keys[1], 2), await asked(app, keys[1], 2, "other")]
    answer = await predict(app, keys[1])

    assert seen == [[200], [200, 429], [200, 200]]
    document = answer.json()
    assert (document["code"], document["error"]) == ("rate_limited", document["detail"])
    assert document["detail"] == f"the limit model/{name} is spent: it admits 0.001 requests a second, and 2 at once"
    assert int(answer.headers["retry-after"]) > 900
    assert answer.headers["ratelimit-policy"] == f'"model/{name}";q=2;w=2000'
    assert answer.headers["ratelimit"].startswith(f'"model/{name}";r=0;t=')


async def test_a_request_that_one_level_refuses_is_charged_at_none(app: Serving, limit: Any) -> None:
    async with app.client() as client:
        wanted = {"permissions": ["models.infer"], "rate_limit": {"rate": SLOW, "burst": 20}}
        key = (await client.post("/v1/api-keys", json=wanted)).json()["secret"]
    await limit(level="tenant", burst=50)
    await limit(level="route", burst=50, object=PREDICTIONS, counts="bytes", rate=1000)
    await limit(level="model", burst=1, object="late")
    assert await asked(app, key, 1, "other") == [422]  # the body is larger than a full bucket: nothing is taken
    before = await left(app, key)

    assert (before, await asked(app, key, 3), await left(app, key)) == (19, [422] * 3, 18)


async def test_what_the_model_refuses_costs_the_key_and_the_tenant_nothing(app: Serving, limit: Any) -> None:
    async with app.client() as client:
        wanted = {"permissions": ["models.infer"], "rate_limit": {"rate": SLOW, "burst": 8}}
        key = (await client.post("/v1/api-keys", json=wanted)).json()["secret"]
    tenant = await limit(level="tenant", burst=7)
    await limit(level="model", burst=1, object="late")

    assert await asked(app, key, 5) == [200, 429, 429, 429, 429]
    answers = [await predict(app, key, "other") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 6 + [429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["5", "4", "3", "2", "1", "0", "0"]
    assert answers[-1].headers["ratelimit"].startswith(f'"tenant/{tenant}";')


async def test_heads_that_are_known_keep_to_every_level(app: Serving, limit: Any) -> None:
    key = await app.new_key("models.infer")
    async with Caller(app, key) as caller:
        assert [(await caller.ask())[0] for _ in range(3)] == [200] * 3  # known
        name = await limit(level="model", burst=5, counts="rows")
        seen = [await caller.ask() for _ in range(6)]
        async with Caller(app, key, PATH, "X-Of: another") as other:
            assert (await other.ask())[0] == 429

    assert [status for status, _, _ in seen] == [200] * 5 + [429]
    assert [headers["ratelimit-remaining"] for _, headers, _ in seen] == ["4", "3", "2", "1", "0", "0"]
    assert seen[0][1]["ratelimit-policy"] == f'"model/{name}";q=5;w=5000;qu="rows"'
    assert json.loads(seen[5][2])["code"] == "rate_limited"


async def test_rows_are_counted_one_by_one(app: Serving, limit: Any) -> None:
    key = await app.new_key("models.infer")
    await limit(level="model", counts="rows", burst=7, object="late")
    seen = [(await predict(app, key, rows=rows)).status_code for rows in (4, 4, 3, 1)]
    many = await predict(app, key, rows=8)

    assert seen == [200, 429, 200, 429]
    assert (many.status_code, many.json()["code"]) == (422, "limit_exceeded")


async def test_bytes_are_those_of_the_body(app: Serving, limit: Any) -> None:
    key = await app.new_key("models.infer", "models.get", "models.create")
    name = await limit(level="key", counts="bytes", burst=7 * len(BODY) // 2, object=f"key:{key[4:12]}")
    async with Caller(app, key) as caller:
        seen = [await caller.ask() for _ in range(4)]
    async with app.client(key) as client:
        made = await client.post("/v1/models", json={"model": "bytes", "description": "b" * len(BODY)})

    assert [status for status, _, _ in seen] == [200, 200, 200, 429]
    assert seen[0][1]["ratelimit-policy"].startswith(f'"key/{name}";q={7 * len(BODY) // 2};')
    assert seen[0][1]["ratelimit-policy"].endswith('qu="content-bytes"')
    assert made.status_code == 429
    assert (await app.get("/v1/models/late", key)).status_code == 200  # without a body it takes none


async def test_tokens_are_those_that_the_caller_states(app: Serving, limit: Any) -> None:
    key = await app.new_key("models.infer")
    await limit(level="model", counts="tokens", burst=7)
    seen = [(await predict(app, key, x_tokens=tokens)).status_code for tokens in ("3", "3", "3", "1", "0")]
    async with Caller(app, key, PATH, "X-Tokens: 1") as caller:
        seen += [(await caller.ask())[0] for _ in range(2)]
    none = await predict(app, key)
    odd = await predict(app, key, x_tokens="-1")

    assert seen == [200, 200, 429, 200, 200, 429, 429]
    assert none.status_code == 200
    assert (odd.status_code, odd.json()["code"]) == (422, "invalid_value")


async def test_routes_of_the_contract_have_limits(app: Serving, limit: Any) -> None:
    key = await app.new_key("models.get", "models.list")
    await limit(level="route", burst=2, object="aimass.v1.Models/GetModel")
    seen = [(await app.get(path, key)).status_code for path in ["/v1/models/late"] * 3 + ["/v1/models"]]

    assert seen == [200, 200, 429, 200]


async def test_each_key_has_a_bucket_of_a_limit_for_keys(app: Serving, limit: Any) -> None:
    keys = [await app.new_key("models.infer") for _ in range(2)]
    await limit(level="key", burst=2, object=f"key:{keys[0][4:7]}*")
    await limit(level="key", burst=1, object=f"key:{keys[1][4:12]}")

    assert [await asked(app, key, 3) for key in keys] == [[200, 200, 429], [200, 429, 429]]


async def test_a_limit_for_a_project_is_for_no_other(app: Serving, limit: Any) -> None:
    key = await app.new_key("models.get")
    await limit(level="tenant", burst=1, in_project="elsewhere")
    async with app.client(key, **{"x-project": "elsewhere"}) as client:
        there = [(await client.get("/v1/models/late")).status_code for _ in range(2)]

    assert there == [404, 429]
    assert (await app.get("/v1/models/late", key)).status_code == 200


async def test_a_limit_that_is_imposed_stays_as_it_is(app: Serving) -> None:
    key = await app.new_key("*", tenant="small")
    imposed = await put(app, "cap", tenant="small", level="tenant", burst=6)
    assert imposed.json() | {"imposed": True, "tenant": "small"} == imposed.json()

    assert (await put(app, "cap", key, etag="*", level="tenant", burst=60)).status_code == 403
    assert (await put(app, "more", key, level="tenant", burst=60)).status_code == 200
    async with app.client(key) as client:
        taken = await client.delete("/v1/limits/cap", headers={"if-match": "*"})
        shown = (await client.get("/v1/limits/cap")).json()
        rest = [(await client.get("/v2")).status_code for _ in range(7)]
    assert (taken.status_code, taken.json()["detail"]) == (403, "cap was set by the installation")
    assert shown["imposed"]
    assert rest == [200] * 6 + [429]
    async with app.client() as client:
        assert (await client.delete("/v1/limits/cap?tenant=small", headers={"if-match": "*"})).status_code == 200
    assert (await app.get("/v2", key)).status_code == 200


async def test_nobody_limits_another_tenant(app: Serving) -> None:
    key = await app.new_key("*", tenant="curious")
    async with app.client(key) as client:
        seen = [
            await put(app, "theirs", key, tenant="default", level="tenant"),
            await client.get("/v1/limits/theirs?tenant=default"),
            await client.get("/v1/limits?tenant=default"),
            await client.delete("/v1/limits/theirs?tenant=default", headers={"if-match": "*"}),
        ]
    own = await put(app, "mine", key, tenant="curious", level="tenant")

    assert [answer.status_code for answer in seen] == [404] * 4
    assert own.status_code == 403


async def test_who_may_read_limits_may_not_set_them(app: Serving) -> None:
    reader, none = await app.new_key("limits.read"), await app.new_key("models.*")
    seen = [(await app.get("/v1/limits", key)).status_code for key in (reader, none)]

    assert seen == [200, 403]
    assert (await put(app, "unset", reader, level="tenant")).status_code == 403


async def test_many_requests_at_a_time_are_admitted_as_often_as_the_limit_says(app: Serving, limit: Any) -> None:
    keys = [await app.new_key("models.infer") for _ in range(4)]
    await limit(level="model", burst=10, object="late")
    await limit(level="tenant", burst=40)
    answers = await asyncio.gather(*(predict(app, keys[number % 4]) for number in range(40)))
    seen = [answer.status_code for answer in answers]

    assert (seen.count(200), seen.count(429)) == (10, 30)
    assert await asked(app, keys[0], 30, "other") == [200] * 30  # the tenant's bucket has them still
    assert await asked(app, keys[0], 1, "other") == [429]


async def test_both_doors_take_from_the_same_buckets(app: Serving, limit: Any) -> None:
    key = await app.new_key("models.infer", "models.get")
    name = await limit(level="model", counts="rows", burst=3, object="late")
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 4]}
    fields: dict[str, Any] = {"model_name": "late", "inputs": [tensor], "raw_input_contents": [bytes(32)]}
    await call(app, "ModelInfer", key, **fields)

    assert await refusal(app, "ModelInfer", key, **fields) == (
        "rate_limited",
        f"the limit model/{name} is spent: it admits 0.001 rows a second, and 3 at once",
    )
    assert await asked(app, key, 2) == [200, 429]


async def test_routes_of_the_contract_have_one_bucket_for_both_doors(app: Serving, limit: Any) -> None:
    key = await app.new_key("models.get")
    await limit(level="route", burst=3, object="aimass.v1.Models/*")
    method, seen = contract.all_methods()["/aimass.v1.Models/GetModel"], []
    request = models_pb2.GetModelRequest(model="late")
    async with aio.insecure_channel(app.doors["grpc"]) as channel:
        ask: Any = channel.unary_unary(method.path, lambda sent: sent.SerializeToString(), models_pb2.Model.FromString)
        for _ in range(2):
            seen.append((await app.get("/v1/models/late", key)).status_code)
            try:
                await ask(request, metadata=(("authorization", f"Bearer {key}"),))
                seen.append(200)
            except aio.AioRpcError as error:
                assert error.code() is StatusCode.RESOURCE_EXHAUSTED
                seen.append(429)

    assert seen == [200, 200, 200, 429]


async def test_a_limit_is_told_to_who_listens(app: Serving) -> None:
    await put(app, "told", level="tenant", burst=1e6)
    await put(app, "told", level="tenant", burst=1e6)  # nothing has changed
    async with app.client() as client:
        await client.delete("/v1/limits/told", headers={"if-match": "1"})

    count, found = 2, list[Any]()
    while len(found) < 2:
        heard = await app.house.heard(events.LimitChanged, count)
        found, count = [message for message in heard if message.limit.limit == "told"], count + 1

    told = [(one.generation, one.limit.burst, one.limit.HasField("delete_time")) for one in found]
    assert told == [(1, 1e6, False), (2, 1e6, True)]
