"""Requests for one model that several versions answer: over HTTP, gRPC and the short way, and when they may not."""

import itertools
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from grpc import aio

from aimass.v1 import releases_pb2 as pb
from services.gateway.api.oip_messages import SERVICE, message
from services.gateway.traffic.api import release_from_wire
from services.kit.auth import Scope
from services.kit.errors import Failure
from tests.gateway.peers import ACME, GONE, SERVING, WITHDRAWN, Peers, peers, release, version
from tests.gateway.serving import Serving, serving
from tests.gateway.test_repeats import PATH, ROW
from tests.gateway.test_repeats import Caller as Connection
from tests.gateway.test_traffic import answering, query
from tests.support.house import until
from tests.support.models import logistic, register

module = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """Version 1 of a model serves; there are two more."""
    async with serving(tmp_path_factory.mktemp("home")) as found:
        await found.serve("late", logistic(4, 1))
        for seed in (2, 3):
            await register(found.house, "late", logistic(4, seed), tenant="default")
        yield found


async def share(app: Serving, *rules: dict[str, Any], version: int = 0, **fields: Any) -> None:
    """Says rules over REST; returns when the gateway goes by them, and a version, if one is named, is loaded."""
    async with app.client() as client:
        headers = {"if-match": (await client.get("/v1/models/late/traffic")).json()["etag"]}
        answer = await client.patch("/v1/models/late/traffic", json={"rules": rules, **fields}, headers=headers)
        assert answer.status_code == 200, answer.text
        generation = int((await client.get("/v1/models/late/release")).json()["generation"])
        await until(lambda: heard(app) >= generation)

        async def loaded() -> bool:
            return not version or (await client.get(f"/v2/models/late/versions/{version}/ready")).status_code == 200

        await until(loaded)


def heard(app: Serving) -> int:
    """The generation of the release that the gateway goes by."""
    tasks = app.house.runtime.apps["gateway"].tasks
    traffic = next(there for task in tasks if (there := getattr(getattr(task, "__self__", None), "_traffic", None)))
    return int(traffic._routes[Scope("default"), "late"].release.generation)


def to(number: int, percent: float = 100, **fields: Any) -> dict[str, Any]:
    return {"shares": [{"version": number, "percent": percent}], **fields}


async def answered(app: Serving, *more: str, key: str = "", path: str = PATH) -> int:
    """The version that answers one request on a connection of its own."""
    async with Connection(app, key, path, *more) as caller:
        status, headers, _ = await caller.ask()
        assert status == 200
        return int(headers["model-version"].partition(";")[0])


async def becomes(app: Serving, number: int, *more: str, key: str = "") -> None:
    async def so() -> bool:
        return await answered(app, *more, key=key) == number

    await until(so)


@module
async def test_a_header_chooses_the_version_that_answers_and_the_answer_says_so(app: Serving) -> None:
    await share(app, to(2, header="X-Cohort", values=["beta"]), version=2)
    await becomes(app, 2, "X-Cohort: beta")

    assert [await answered(app, *more) for more in ([], ["x-cohort: alpha"], ["x-cohort: beta"])] == [1, 1, 2]
    assert await answered(app, "x-cohort: beta", path="/v2/models/late/versions/1/infer") == 1
    answer = await app.post(PATH, ROW, x_cohort="beta")
    assert (answer.json()["model_version"], answer.headers["model-version"][:2]) == ("2", "2;")


@module
async def test_heads_that_came_before_obey_rules_that_came_later(app: Serving) -> None:
    await share(app)
    async with Connection(app, "", PATH, "X-Cohort: beta") as beta, Connection(app) as plain:
        for _ in range(3):  # known from now on
            assert [(await one.ask())[0] for one in (beta, plain)] == [200, 200]

        async def versions() -> list[str]:
            return [(await one.ask())[1]["model-version"].partition(";")[0] for one in (beta, plain)]

        await share(app, to(3, header="x-cohort", values=["beta"]), version=3)
        await until(lambda: _is(versions, ["3", "1"]))
        assert [await versions() for _ in range(5)] == [["3", "1"]] * 5
        await share(app)
        await until(lambda: _is(versions, ["1", "1"]))


async def _is(found: Any, wanted: list[str]) -> bool:
    return bool(await found() == wanted)


@module
async def test_a_key_chooses_the_version_over_http_and_grpc(app: Serving) -> None:
    key = await app.new_key("models.infer")
    await share(app, to(3, callers=[f"key:{key.split('_')[1]}"]), version=3)
    await becomes(app, 3, key=key)

    assert [await by_grpc(app, key), await by_grpc(app, app.key)] == [3, 1]


async def by_grpc(app: Serving, key: str, *more: tuple[str, str]) -> int:
    values = ROW["inputs"][0]["data"]
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": values}}]
    request = message("ModelInferRequest")(model_name="late", inputs=inputs)
    async with aio.insecure_channel(app.doors["grpc"]) as channel:
        call: Any = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", lambda one: one.SerializeToString(), message("ModelInferResponse").FromString
        )
        reply = await call(request, metadata=(("authorization", f"Bearer {key}"), *more), timeout=10)
    return int(reply.model_version)


@module
async def test_metadata_chooses_the_version_over_grpc(app: Serving) -> None:
    await share(app, to(2, header="x-cohort", values=["beta"]), version=2)
    await becomes(app, 2, "x-cohort: beta")

    assert [await by_grpc(app, app.key, ("x-cohort", value)) for value in ("beta", "alpha")] == [2, 1]


@module
async def test_a_share_of_the_requests_is_exact(app: Serving) -> None:
    await share(app, to(2, 30), version=2)
    found = Counter[str]()
    async with Connection(app) as caller:

        async def shared() -> bool:
            return (await caller.ask())[1]["model-version"].startswith("2;")

        await until(shared)
        for _ in range(1_000):
            _, headers, _ = await caller.ask()
            found[headers["model-version"].partition(";")[0]] += 1

    assert abs(found["2"] - 300) <= 5
    assert set(found) == {"1", "2"}


@module
async def test_who_stays_has_the_same_version_each_time_by_both_doors(app: Serving) -> None:
    await share(app, to(2, 50, sticky="STICKY_HEADER", sticky_header="x-customer"), version=2)
    found = {}
    for number in range(30):
        customer = f"c{number}"
        found[customer] = await by_grpc(app, app.key, ("x-customer", customer))
        assert {await answered(app, f"X-Customer: {customer}") for _ in range(2)} == {found[customer]}

    assert set(found.values()) == {1, 2}


@module
async def test_the_traffic_is_a_resource_with_an_etag(app: Serving) -> None:
    await share(app)
    async with app.client() as client:
        there = (await client.get("/v1/models/late/traffic")).json()
        missing = await client.patch("/v1/models/late/traffic", json={"rules": []})
        stale = await client.patch("/v1/models/late/traffic", json={"rules": []}, headers={"if-match": '"0"'})
        wrong = await client.patch(
            "/v1/models/late/traffic", json={"rules": [to(2, 101)]}, headers={"if-match": there["etag"]}
        )

    assert (missing.status_code, stale.status_code, wrong.status_code) == (428, 412, 422)
    assert wrong.json()["code"] == "invalid_value"


def sharing(generation: int, *shares: tuple[int, float], **fields: Any) -> pb.Release:
    """Version 1 serves, and others have shares."""
    found = release("late", generation, SERVING, 1, 1)
    found.traffic.rules.add(shares=[pb.TrafficShare(version=v, percent=p) for v, p in shares], **fields)
    found.shared.extend(known for v, _ in shares if (known := version(v)))
    return found


def ask(running: Peers, who: str = "key:a") -> int:
    """The version that a request is given."""
    return running.traffic.pin(ACME, "late", "", who, lambda name: None).version.number


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Peers]:
    async with peers(tmp_path, ("acme", "late", 1), releases=[release("late", 1, SERVING, 1, 1)]) as found:
        await until(lambda: answering(found) == 1)
        yield found


async def test_ten_thousand_requests_are_shared_within_one_percent(running: Peers) -> None:
    await running.say_release(sharing(2, (2, 10.0), (3, 25.0)))
    for number in (2, 3):
        await running.say_engine("late", number)
    await until(lambda: {ask(running) for _ in range(20)} == {1, 2, 3})
    found = Counter(ask(running) for _ in range(10_000))

    assert [abs(found[number] / 10_000 - share) < 0.01 for number, share in ((1, 0.65), (2, 0.1), (3, 0.25))] == [
        True
    ] * 3


async def test_a_rule_for_few_requests_shares_those_as_exactly_as_one_for_all(running: Peers) -> None:
    shared = sharing(2, (2, 10.0), header="x-cohort")
    shared.traffic.rules.add(shares=[pb.TrafficShare(version=1, percent=100)])
    await running.say_release(shared)
    await running.say_engine("late", 2)
    few, all_others = {"x-cohort": "beta"}, dict[str, str]()

    def number(headers: dict[str, str]) -> int:
        return running.traffic.pin(ACME, "late", "", "key:a", headers.get).version.number

    await until(lambda: 2 in {number(few) for _ in range(20)})
    found = Counter[int]()
    for _ in range(100):
        found[number(few)] += 1
        for _ in range(88):
            assert number(all_others) == 1

    assert abs(found[2] - 10) <= 2


@pytest.mark.parametrize("gone", ["rule", "model"])
async def test_a_rule_that_comes_back_begins_anew_and_another_one_goes_on(running: Peers, gone: str) -> None:
    """So what is kept for a rule is gone with it: an app's rules and models may come and go for ever."""
    generation = itertools.count(2)

    async def say(*percents: float, desired: int = 1) -> None:
        serving = release("late", next(generation), SERVING, desired, desired)
        serving.shared.extend(known for known in [version(2)] if known)
        for index, percent in enumerate(percents):
            serving.traffic.rules.add(shares=[pb.TrafficShare(version=2, percent=percent)], header=f"x-{index}")
        await running.traffic.release_changed(ACME, release_from_wire(serving), frozenset())

    def places(index: int) -> list[int]:
        headers = {f"x-{index}": ""}
        return [running.traffic.pin(ACME, "late", "", "key:a", headers.get).version.number for _ in range(5)]

    await say(50.0, 50.0)
    await running.say_engine("late", 2)
    await until(lambda: 2 in running.traffic.versions(ACME, "late"))
    first, second = places(0), places(1)
    await (say(50.0) if gone == "rule" else say(50.0, 50.0, desired=0))
    await say(50.0, 50.0)

    assert first == second == places(1) == [2, 1, 2, 1, 1]
    assert (places(0) == first) is (gone == "model")


async def test_a_version_that_is_not_ready_gets_nothing(running: Peers) -> None:
    await running.say_release(sharing(2, (2, 100.0)))
    await until(lambda: running.traffic.route(ACME, "late", "").shared)
    assert {ask(running) for _ in range(50)} == {1}

    await running.say_engine("late", 2)
    await until(lambda: ask(running) == 2)
    await running.say_engine("late", 2, GONE)
    await until(lambda: ask(running) == 1)


async def test_a_version_that_turns_out_to_be_gone_is_answered_for_by_what_serves(running: Peers) -> None:
    await running.say_release(sharing(2, (2, 100.0)))
    await running.say_engine("late", 2)
    await until(lambda: ask(running) == 2)
    running.inference.loaded.discard(("acme", "late", 2))
    shared = running.traffic.pin(ACME, "late", "", "key:a", lambda name: None)

    assert (await running.traffic.predict(shared, query(1, 2))).pinned.version.number == 1


async def test_a_version_with_a_share_answers_while_what_serves_cannot(running: Peers) -> None:
    await running.say_release(sharing(2, (2, 100.0)))
    await running.say_engine("late", 2)
    await running.say_engine("late", 1, GONE)
    await until(lambda: ask(running) == 2)

    with pytest.raises(Failure, match="late version 1"):
        running.traffic.route(ACME, "late", "")


async def test_a_model_that_is_withdrawn_answers_nobody(running: Peers) -> None:
    await running.say_release(sharing(2, (2, 100.0)))
    await running.say_engine("late", 2)
    await until(lambda: ask(running) == 2)
    gone = sharing(3, (2, 100.0))
    gone.state = WITHDRAWN
    gone.ClearField("desired")
    gone.ClearField("serving")
    await running.say_release(gone)

    await until(lambda: answering(running) == 0)


async def test_a_model_says_how_its_instances_are_chosen(running: Peers) -> None:
    assert running.traffic.balancer(ACME, "late") is None
    for generation, said, way in (
        (2, pb.BALANCING_ROUND_ROBIN, "round_robin"),
        (3, pb.BALANCING_LEAST_CONNECTIONS, "least_connections"),
    ):
        changed = release("late", generation, SERVING, 1, 1)
        changed.traffic.balancing = said
        await running.say_release(changed)
        await until(lambda: str(getattr(running.traffic.balancer(ACME, "late"), "way", "")) == way)  # noqa: B023
    await running.say_release(release("late", 4, SERVING, 1, 1))
    await until(lambda: running.traffic.balancer(ACME, "late") is None)
