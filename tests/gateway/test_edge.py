import json
from typing import Any

import pytest

from services.gateway.api import openapi_fixed, routes
from services.gateway.calls import Calls
from services.kit import contract
from tests.gateway.conftest import Gateway
from tests.support.house import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id"}


def live_routes(gateway: Gateway) -> list[tuple[str, str]]:
    """Every verb and path of the running gateway."""
    table = routes.table(Calls(gateway.house.runtime, *[None] * 6).methods())  # type: ignore[arg-type]
    found = [(verb, entry.template) for entry in table for verb in entry.verbs]
    fixed = [(verb.upper(), path) for path, verbs in openapi_fixed.PATHS.items() for verb in verbs]
    pages = [("GET", path) for path in ("/", "/docs", "/docs/start.js", "/openapi.json", "/unknown", "/v3")]
    return found + fixed + pages


async def test_without_a_key_nothing_answers_but_live_and_ready(gateway: Gateway) -> None:
    table = live_routes(gateway)
    async with gateway.client("") as client:
        answers = {(verb, path): await client.request(verb, path) for verb, path in table}

    opened = {path for (_, path), answer in answers.items() if answer.status_code != 401}
    assert len(table) > 90
    assert opened == {"/health/live", "/health/ready"}
    refused = [answer for answer in answers.values() if answer.status_code == 401]
    assert all("Bearer" in answer.headers["www-authenticate"] for answer in refused)
    assert all(answer.json()["code"] == "unauthenticated" for answer in refused)


@pytest.mark.parametrize(
    "credential",
    [
        "Bearer",
        "Bearer x",
        "Bearer aim_aaaaaaaa_" + "a" * 43,
        "Basic eDp5",
        "aim_aaaaaaaa_" + "a" * 43,
        "Bearer \xe4",
        "Bearer " + "a" * 9000,
    ],
)
async def test_every_wrong_credential_gets_the_same_answer(gateway: Gateway, credential: str) -> None:
    async with gateway.client("") as client:
        answer = await client.get("/v1/whoami", headers=[(b"authorization", credential.encode("latin-1"))])

    assert (answer.status_code, answer.json()["detail"]) == (401, "the key is not valid")


async def test_a_key_says_who_calls(gateway: Gateway) -> None:
    async with gateway.client(**{"x-project": "flights"}) as client:
        answer = await client.get("/v1/whoami")

    assert answer.json()["tenant"] == "default"
    assert answer.json()["project"] == "flights"
    assert answer.json()["permissions"] == ["*"]


async def test_identity_headers_from_outside_mean_nothing(gateway: Gateway) -> None:
    claims = dict.fromkeys(("tenant", "x-tenant", "x-principal", "x-forwarded-user", "x-permissions"), "system")
    async with gateway.client(**claims) as client:
        answer = await client.get("/v1/models/late")

    seen = gateway.services["aimass.v1.Models"].seen[-1]
    assert answer.status_code == 200
    assert seen.scope.tenant == "default"
    assert not set(claims) & set(seen.metadata)


async def test_a_basic_password_opens_pages_and_nothing_else(gateway: Gateway) -> None:
    async with gateway.client("") as client:
        login = ("anyone", gateway.admin)
        page = await client.get("/docs", auth=login)
        api = await client.get("/v1/whoami", auth=login)
        ask = await client.get("/docs")

    assert (page.status_code, api.status_code) == (200, 401)
    assert any("Basic" in value for value in ask.headers.get_list("www-authenticate"))


async def test_a_request_keeps_its_name(gateway: Gateway) -> None:
    async with gateway.client() as client:
        named = await client.get("/v1/whoami", headers={"x-request-id": "job-17"})
        unnamed = await client.get("/v1/nothing")

    assert named.headers["x-request-id"] == "job-17"
    assert unnamed.headers["x-request-id"] == unnamed.json()["request_id"]


async def test_a_wrong_project_name_is_refused(gateway: Gateway) -> None:
    async with gateway.client(**{"x-project": "../etc"}) as client:
        answer = await client.get("/v1/whoami")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_name")


async def test_another_origin_and_another_host_are_refused(gateway: Gateway) -> None:
    async with gateway.client() as client:
        origin = await client.get("/v1/whoami", headers={"origin": "https://evil.example"})
        host = await client.get("/v1/whoami", headers={"host": "evil.example"})

    assert (origin.status_code, origin.json()["code"]) == (403, "origin_denied")
    assert (host.status_code, host.json()["code"]) == (421, "misdirected")


async def test_every_problem_has_its_members(gateway: Gateway) -> None:
    async with gateway.client() as client:
        answer = await client.get("/v1/nothing?secret=1")

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().keys() >= MEMBERS
    assert answer.json()["instance"] == "/v1/nothing"


async def test_who_calls_too_often_waits(gateway: Gateway) -> None:
    slow = await gateway.key(rate_limit={"rate": 1, "burst": 3})
    async with gateway.client(slow) as client:
        answers = [await client.get("/v1/whoami") for _ in range(5)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["ratelimit-limit"] == "3"
    assert answers[2].headers["ratelimit-remaining"] == "0"
    assert answers[3].headers["retry-after"] == "1"
    assert answers[3].json()["code"] == "rate_limited"
    assert 0 < answers[3].json()["retry_after_ms"] <= 1000


async def test_a_dear_call_costs_more(gateway: Gateway) -> None:
    dear = next(m for m in contract.all_methods().values() if m.public and m.policy.cost > 1 and "{" not in m.route)
    key = await gateway.key(rate_limit={"rate": 0.1, "burst": 100})
    async with gateway.client(key) as client:
        answer = await client.request(dear.verb, dear.route, json={})

    assert int(answer.headers["ratelimit-remaining"]) == 100 - dear.policy.cost


async def test_health_says_more_to_those_with_a_key(gateway: Gateway) -> None:
    async with gateway.client("") as nobody, gateway.client() as somebody:
        await until(lambda: _ready(nobody))
        bare = await nobody.get("/health/ready")
        known = await somebody.get("/health/ready")
        wrong = await nobody.post("/health/live")

    assert bare.json() == {"status": "ready"}
    assert known.json()["services"] == {"gateway": True}
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")


async def _ready(client: Any) -> bool:
    return bool((await client.get("/health/ready")).status_code == 200)


async def test_the_access_log_has_a_line_for_each_request(gateway: Gateway) -> None:
    async with gateway.client() as client:
        await client.get("/v1/models/late?page=secret", headers={"x-request-id": "logged-1"})
        await client.get("/v1/whoami", headers={"x-request-id": "logged-2", "authorization": "Bearer no"})

    def lines() -> list[dict[str, Any]]:
        text = (gateway.home / "logs" / "access.log").read_text()
        found = [json.loads(line) for line in text.splitlines()]
        return [line for line in found if str(line["request_id"]).startswith("logged-")]

    first, second = await until(lambda: lines() if len(lines()) == 2 else None)
    assert (first["tenant"], first["method"], first["path"]) == ("default", "GET", "/v1/models/late")
    assert first["status"] == 422  # `page` is no field
    assert first["principal"].startswith("key:")
    assert first["duration_ms"] > 0
    assert first["address"] == "127.0.0.1"
    assert "secret" not in json.dumps(first)
    assert (second["status"], second["tenant"]) == (401, "")
