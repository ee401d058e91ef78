"""Who administers the installation, and how nobody becomes one who does not."""

import asyncio
from typing import Any

import pytest

from services.gateway.access.domain import ApiKey
from tests.gateway.conftest import Gateway
from tests.gateway.test_access_domain import NOW

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def ask(gateway: Gateway, key: str, verb: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    async with gateway.client(key, **headers) as client:
        answer = await client.request(verb, path, json=body)
        return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("tenant", "permissions", "projects", "administers"),
    [
        ("default", ("*",), (), True),
        ("system", ("models.get", "*"), (), True),
        ("default", ("tenants.*",), (), False),
        ("default", ("*",), ("flights",), False),
        ("acme", ("*",), (), False),
    ],
)
async def test_only_unbounded_keys_of_the_installation_administer(
    tenant: str, permissions: tuple[str, ...], projects: tuple[str, ...], administers: bool
) -> None:
    assert ApiKey("abcdefgh", tenant, "", permissions, NOW, projects).administers is administers


async def test_a_key_for_one_project_makes_no_tenants_and_no_keys_for_other_tenants(gateway: Gateway) -> None:
    await gateway.tenant("kappa")
    bounded = await gateway.key(projects=["flights"])
    flights = {"x-project": "flights"}

    assert (await ask(gateway, bounded, "POST", "/v1/tenants", {"tenant": "lambda"}, **flights))[0] == 403
    for tenant in ("kappa", "system"):
        status, problem = await ask(gateway, bounded, "POST", "/v1/api-keys", {"tenant": tenant}, **flights)
        assert (status, problem["detail"]) == (404, f"there is no tenant {tenant}")
    status, listed = await ask(gateway, bounded, "GET", "/v1/tenants", **flights)
    assert [tenant["tenant"] for tenant in listed["tenants"]] == ["default"]


async def test_a_key_for_one_project_hands_out_keys_for_that_project(gateway: Gateway) -> None:
    bounded = await gateway.key(projects=["flights"])
    flights = {"x-project": "flights"}
    _, made = await ask(gateway, bounded, "POST", "/v1/api-keys", {}, **flights)
    wider, _ = await ask(gateway, bounded, "POST", "/v1/api-keys", {"projects": ["flights", "other"]}, **flights)

    assert made["api_key"]["projects"] == ["flights"]
    assert wider == 403


async def test_ten_at_once_make_a_tenant_once(gateway: Gateway) -> None:
    body = {"tenant": "mu"}
    answers = await asyncio.gather(*(ask(gateway, gateway.admin, "POST", "/v1/tenants", body) for _ in range(10)))

    assert sorted(status for status, _ in answers) == [200] + [409] * 9


async def test_ten_repeats_at_once_have_one_answer(gateway: Gateway) -> None:
    body, key = {"tenant": "nu"}, {"idempotency-key": "nu-1"}
    answers = await asyncio.gather(
        *(ask(gateway, gateway.admin, "POST", "/v1/tenants", body, **key) for _ in range(10))
    )

    made = [content for status, content in answers if status == 200]
    assert made
    assert all(content == made[0] for content in made)
    assert {content["code"] for status, content in answers if status != 200} <= {"in_progress"}


async def test_keys_that_are_made_at_once_are_all_different_and_all_work(gateway: Gateway) -> None:
    keys = await asyncio.gather(*(gateway.key(permissions=["models.get"]) for _ in range(10)))
    answers = await asyncio.gather(*(ask(gateway, key, "GET", "/v1/whoami") for key in keys))

    assert len({key[4:12] for key in keys}) == 10
    assert [content["principal"] for _, content in answers] == [f"key:{key[4:12]}" for key in keys]


async def test_a_key_that_is_revoked_while_it_is_used_is_never_half_valid(gateway: Gateway) -> None:
    key = await gateway.key()
    async with gateway.client(key) as client:
        asking = asyncio.gather(*(client.get("/v1/whoami") for _ in range(20)))
        await ask(gateway, gateway.admin, "DELETE", f"/v1/api-keys/{key[4:12]}")
        answers = await asking
        after = await client.get("/v1/whoami")

    assert {answer.status_code for answer in answers} <= {200, 401}
    assert after.status_code == 401


async def test_a_closed_tenants_keys_do_not_come_back_by_a_new_key(gateway: Gateway) -> None:
    key = await gateway.tenant("xi")
    await ask(gateway, gateway.admin, "DELETE", "/v1/tenants/xi", **{"if-match": '"1"'})
    status, problem = await ask(gateway, gateway.admin, "POST", "/v1/api-keys", {"tenant": "xi"})

    assert (status, problem["code"]) == (404, "not_found")
    assert (await ask(gateway, key, "GET", "/v1/whoami"))[0] == 401
