"""Policies and predictions: over REST, gRPC and the short way, time, place and amount asked for each of them."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from aimass.v1.audit_events_pb2 import CallAudited
from services.gateway.policies.domain.compiled import Compiled
from services.gateway.policies.domain.rules import Effect, Rule, What
from services.gateway.policies.guard import Guard
from services.kit.errors import Forbidden
from services.kit.status import failure_of
from tests.gateway.peers import ACME, LOADING, peers, release
from tests.gateway.serving import Serving, serving
from tests.gateway.test_oip_grpc import ROWS, call, refusal, tensor
from tests.gateway.test_repeats import PATH, ROW, Caller, full
from tests.gateway.test_traffic import answering, query
from tests.support import models
from tests.support.house import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
__all__ = ["full"]
VERSIONS = "/v1/policies/versions"
INFER = {"permissions": ["models.infer"]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("home")) as found:
        await found.serve("late", models.logistic(4, 1))
        await models.register(found.house, "risky", models.logistic(4, 2), tenant="default", labels={"risk": "high"})
        await found.promote("risky", 1)
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def lifted(app: Serving) -> AsyncIterator[None]:
    """Afterwards no rule counts."""
    yield
    await counting(app)


async def counting(app: Serving, *rules: dict[str, Any]) -> None:
    async with app.client() as admin:
        written = [{"name": f"r{n}", "effect": "POLICY_EFFECT_DENY"} | rule for n, rule in enumerate(rules)]
        number = (await admin.post(VERSIONS, json={"rules": written})).json()["version"]
        await admin.post(f"{VERSIONS}/{number}:test", json={})
        answer = await admin.post(f"{VERSIONS}/{number}:activate", json={})
        assert answer.status_code == 200, answer.text


async def codes(app: Serving, model: str = "late", rows: int = 1) -> list[str]:
    """What REST and gRPC answer."""
    values = ROWS[:rows]
    inputs = [{"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": values.ravel().tolist()}]
    rest = await app.post(f"/v2/models/{model}/infer", {"inputs": inputs})
    try:
        given: dict[str, Any] = {"inputs": [tensor("x", "FP32", rows, 4)], "raw_input_contents": [values.tobytes()]}
        await call(app, "ModelInfer", model_name=model, **given)
        code = "ok"
    except grpc.aio.AioRpcError as error:
        code = failure_of(error, "gateway").code.text
    return [str(rest.json().get("code", "ok")), code]


@pytest.mark.usefixtures("lifted")
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"what": INFER}, "forbidden"),
        ({"what": {"permissions": ["models.get"]}}, "ok"),
        ({"what": INFER | {"models": ["risky"]}}, "ok"),
        ({"what": INFER | {"methods": ["inference.GRPCInferenceService/ModelInfer"]}}, "forbidden"),
        ({"what": INFER, "how_much": {"rows": {"min": 4}}}, "forbidden"),
        ({"what": INFER, "how_much": {"rows": {"min": 5}}}, "ok"),
        ({"what": INFER, "how_much": {"bytes": {"min": 64, "max": 64}}}, "forbidden"),
        ({"what": INFER, "how_much": {"bytes": {"min": 65}}}, "ok"),
        ({"what": INFER, "where": {"networks": ["127.0.0.0/8", "::1/128"]}}, "forbidden"),
        ({"what": INFER, "where": {"networks": ["10.0.0.0/8"]}}, "ok"),
        ({"what": INFER, "effect": "POLICY_EFFECT_ALLOW_ONLY", "how_much": {"rows": {"max": 3}}}, "forbidden"),
        ({"what": INFER, "effect": "POLICY_EFFECT_ALLOW_ONLY", "how_much": {"rows": {"max": 4}}}, "ok"),
        ({"what": INFER, "when": {"not_after": "2020-01-01T00:00:00Z"}}, "ok"),
    ],
)
async def test_a_rule_counts_for_both_doors(app: Serving, rule: dict[str, Any], expected: str) -> None:
    await counting(app, rule)

    assert await codes(app, rows=4) == [expected] * 2


@pytest.mark.usefixtures("lifted")
async def test_labels_are_those_of_the_version_that_answers(app: Serving) -> None:
    await counting(app, {"what": {"labels": {"risk": "high"}}})

    assert await codes(app, "late") == ["ok"] * 2
    assert await codes(app, "risky") == ["forbidden"] * 2
    refused = await app.post("/v2/models/risky/infer", ROW)
    assert (refused.status_code, refused.json()["detail"]) == (403, "the policy rule r0 refuses it")


@pytest.mark.usefixtures("lifted")
async def test_looking_at_a_model_is_asked_for_as_well(app: Serving) -> None:
    await counting(app, {"what": INFER | {"methods": ["inference.GRPCInferenceService/ModelMetadata"]}})
    seen = [(await app.get(f"/v2/models/late{path}")).status_code for path in ("", "/ready", "/versions/1")]

    assert seen == [403, 200, 403]
    assert (await refusal(app, "ModelMetadata", name="late"))[0] == "forbidden"
    await counting(app, {"what": INFER | {"methods": ["inference.GRPCInferenceService/ModelReady"]}})
    assert (await refusal(app, "ModelReady", name="late"))[0] == "forbidden"
    assert (await app.get("/v2/models/late/ready")).status_code == 403


@pytest.mark.usefixtures("lifted")
async def test_known_heads_are_asked_anew_when_policies_change(app: Serving, full: Counter[str]) -> None:
    async with Caller(app, "", PATH, "X-Of: policies") as caller:
        seen = [(await caller.ask())[0] for _ in range(2)]
        await counting(app, {"what": INFER | {"models": ["late"]}})
        seen.append((await caller.ask())[0])
        await counting(app)
        seen.append((await caller.ask())[0])

    assert (seen, full[PATH]) == ([200, 200, 403, 200], 1)


@pytest.mark.usefixtures("lifted")
async def test_the_time_is_asked_for_each_request_with_a_known_head(app: Serving, full: Counter[str]) -> None:
    begins = datetime.now(UTC) + timedelta(seconds=1.5)
    await counting(
        app, {"what": INFER, "when": {"not_before": begins.isoformat(), "not_after": "2090-01-01T00:00:00Z"}}
    )
    async with Caller(app, "", PATH, "X-Of: time") as caller:
        before = [(await caller.ask())[0] for _ in range(2)]
        assert datetime.now(UTC) < begins
        await asyncio.sleep((begins - datetime.now(UTC)).total_seconds() + 0.01)
        after = [(await caller.ask())[0] for _ in range(2)]

    assert (before, after, full[PATH]) == ([200, 200], [403, 403], 1)


class Elsewhere(Caller):
    """A client at another address."""

    async def __aenter__(self) -> Caller:
        host, _, port = self._url.removeprefix("http://").rpartition(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port), local_addr=("127.0.0.2", 0))
        return self


@pytest.mark.usefixtures("lifted")
async def test_the_address_is_asked_for_each_request_with_a_known_head(app: Serving, full: Counter[str]) -> None:
    await counting(app, {"what": INFER, "where": {"networks": ["127.0.0.2/32"]}})
    async with Caller(app, "", PATH, "X-Of: place") as here, Elsewhere(app, "", PATH, "X-Of: place") as there:
        seen = [(await here.ask())[0] for _ in range(2)]
        seen += [(await there.ask())[0], (await here.ask())[0]]

    assert (seen, full[PATH]) == ([200, 200, 403, 200], 1)


@pytest.mark.usefixtures("lifted")
async def test_the_rows_are_asked_for_each_request_with_a_known_head(app: Serving) -> None:
    await counting(app, {"what": INFER, "how_much": {"rows": {"min": 2}}})
    one = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]}'
    two = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [0,0,0,0,0,0,0,0]}]}'
    async with Caller(app, "", PATH, "X-Of: rows") as caller:
        seen = [(await caller.ask(body.ljust(100)))[0] for body in (one, one, two, one)]

    assert seen == [200, 200, 403, 200]


async def test_a_version_that_stands_in_is_asked_for_as_well(tmp_path: Path) -> None:
    """The one that was pinned is gone when it is called: what answers instead has labels of its own."""
    loading = release("late", 1, LOADING, 2, 1)
    loading.desired.labels["risk"] = "high"
    async with peers(tmp_path, ("acme", "late", 1), releases=[loading]) as running:
        await until(lambda: answering(running) == 1)
        running.inference.loaded = {("acme", "late", 2)}
        pinned = running.traffic.route(ACME, "late", "")
        await running.say_engine("late", 2)
        await until(lambda: answering(running) == 2)
        risky = Rule("risky", Effect.DENY, what=What(labels=(("risk", "high"),)))
        guard = Guard(Compiled([risky]), running.runtime.now, lambda *_: None, lambda *_: None)
        running.traffic.guards = {"acme": guard}
        with pytest.raises(Forbidden, match="the policy rule risky refuses it"):
            await running.traffic.predict(pinned, query(1, 2))


@pytest.mark.usefixtures("lifted")
async def test_predictions_that_are_refused_are_in_the_audit_trail_once(app: Serving) -> None:
    await counting(app, {"what": INFER | {"models": ["late"]}, "who": {"kinds": ["CALLER_KIND_KEY"]}})
    key = await app.new_key("models.infer")
    for _ in range(5):
        assert (await app.post("/v2/models/late/infer", ROW, key)).status_code == 403

    async def told() -> list[CallAudited]:
        heard = await running(app, CallAudited)
        return [one for one in heard if one.principal == f"key:{key[4:12]}"]

    async def there() -> bool:
        return bool(await told())

    await until(there, 10)
    [one] = await told()
    assert (one.resource, one.outcome, one.address) == ("models/late", "forbidden", "127.0.0.1")
    assert one.method == "inference.GRPCInferenceService/ModelInfer"


async def running(app: Serving, kind: Any) -> list[Any]:
    """What was said so far."""
    found: list[Any] = []
    with contextlib.suppress(TimeoutError):
        while True:
            found = await app.house.heard(kind, len(found) + 1, 0.3)
    return found


async def test_a_tenant_without_rules_costs_a_look_up_after_a_few_requests_in_a_second(app: Serving) -> None:
    await counting(app, {"what": INFER})
    await counting(app)
    policies = app.house.runtime.apps["gateway"].rpc["aimass.v1.Policies"]._policies
    policies._recorder.again = lambda tenants: None
    async with Caller(app, "", PATH, "X-Of: cost") as caller:
        for _ in range(1000):  # a slow machine may need more than a second for those of one
            assert (await caller.ask())[0] == 200
            if "default" not in policies.guards:
                break

    assert "default" not in policies.guards
    policies._recorder.again = policies._look


async def test_policies_count_from_the_start(tmp_path: Path) -> None:
    async with serving(tmp_path) as first:
        await first.serve("late", models.logistic(4, 1))
        await counting(first, {"what": INFER})
    async with serving(tmp_path) as second:

        async def told() -> str:
            return str((await second.post("/v2/models/late/infer", ROW)).json().get("detail"))

        async def loaded() -> bool:
            return "being loaded" not in await told()

        await until(loaded, 20)
        assert await told() == "the policy rule r0 refuses it"
