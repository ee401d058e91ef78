"""Bindings of users and groups: what callers with tokens get beside the roles of their groups."""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import aio

from aimass.v1 import roles_pb2
from aimass.v1.roles_pb2_grpc import RolesStub
from services.kit.status import failure_of
from tests.gateway.conftest import Gateway, gateway_at
from tests.gateway.issuing import Issuer, rsa_key, write
from tests.gateway.test_issuers import good, settings
from tests.gateway.test_roles import ask
from tests.support.house import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def corp() -> Iterator[Issuer]:
    issuer = Issuer()
    issuer.keys["one"] = rsa_key()
    yield issuer
    issuer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory, corp: Issuer) -> AsyncIterator[Gateway]:
    """A gateway that takes tokens of one issuer under two names, each for a tenant of its own."""
    home = tmp_path_factory.mktemp("home")
    file = write(home / "issuers.toml", corp.entry(), corp.entry("partner", "acme", "aimass-acme"))
    async with gateway_at(home, **settings(file, corp)) as running:
        await running.tenant("acme")
        await until(partial(good, running, corp))
        yield running


async def bind(door: Gateway, name: str, who: str, role: str = "viewer", key: str | None = None, **where: Any) -> Any:
    return await ask(door, key, "POST", "/v1/bindings", {"binding": name, "role": role, "principal": who, **where})


async def may(door: Gateway, token: str, path: str = "/v1/roles", **headers: str) -> int:
    return int((await ask(door, token, "GET", path, **headers)).status_code)


BOUND = {"user:corp:rae": "a-user", "group:corp:staff": "a-group", "group:corp:Data Science": "a-group-with-a-space"}


@pytest.mark.parametrize("who", BOUND)
async def test_a_binding_of_a_user_or_a_group_counts_at_once_and_ends_at_once(
    door: Gateway, corp: Issuer, who: str
) -> None:
    token, path = corp.token(sub="rae", groups=["staff", "Data Science"]), f"/v1/bindings/{BOUND[who]}"
    seen = [await may(door, token)]
    assert (await bind(door, BOUND[who], who, "admin")).status_code == 200
    seen.append(await may(door, token))
    await ask(door, None, "DELETE", path, if_match="*")
    seen.append(await may(door, token))
    await ask(door, None, "POST", f"{path}:undelete", {})
    seen.append(await may(door, token))
    await ask(door, None, "DELETE", path, if_match="*")

    assert [*seen, await may(door, token)] == [403, 200, 403, 200, 403]


async def test_a_binding_is_for_its_user_or_group_and_nobody_else(door: Gateway, corp: Issuer) -> None:
    assert (await bind(door, "for-ida", "user:corp:ida", "admin")).status_code == 200
    assert (await bind(door, "for-crew", "group:corp:crew", "admin")).status_code == 200
    shown = {
        "ida": corp.token(sub="ida", groups=[]),
        "crew": corp.token(sub="eve", groups=["crew"]),
        "idas": corp.token(sub="idas", groups=["crews", "user:corp:ida", "ida"]),
        "a sub like a group": corp.token(sub="group:corp:crew", groups=[]),
        "of the other tenant": corp.token(sub="ida", groups=["crew"], aud="aimass-acme"),
    }

    seen = {what: await may(door, token) for what, token in shown.items()}
    assert [what for what, status in seen.items() if status == 200] == ["ida", "crew"]
    assert set(seen.values()) == {200, 403}


async def test_a_role_by_a_binding_is_added_to_those_of_groups_and_keeps_to_its_place(
    door: Gateway, corp: Issuer
) -> None:
    await ask(door, None, "POST", "/v1/roles", {"role": "reader", "permissions": ["roles.get"]})
    await bind(door, "a-role", "user:corp:kim", "reader", objects=["roles/viewer"], projects=["lab-*"])
    token = corp.token(sub="kim", groups=["readers"])
    path = "/v1/roles/viewer"

    permissions = (await ask(door, token, "GET", "/v1/whoami", x_project="lab-one")).json()["permissions"]
    assert {"models.get", "roles.get@roles/viewer"} <= set(permissions)
    assert [await may(door, token, path, x_project=project) for project in ("lab-one", "default")] == [200, 403]
    assert await may(door, token, "/v1/roles/admin", x_project="lab-one") == 403


async def test_a_binding_of_a_group_counts_for_its_objects_over_grpc(door: Gateway, corp: Issuer) -> None:
    await bind(door, "over-grpc", "group:corp:callers", "admin", objects=["roles/viewer"])
    metadata = (("authorization", f"Bearer {corp.token(groups=['callers'])}"),)
    async with aio.insecure_channel(door.doors["grpc"]) as channel:
        stub = RolesStub(channel)
        assert (await stub.GetRole(roles_pb2.GetRoleRequest(role="viewer"), metadata=metadata)).built_in
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetRole(roles_pb2.GetRoleRequest(role="admin"), metadata=metadata)

    assert failure_of(caught.value, "gateway").code.text == "forbidden"


async def test_who_has_a_role_in_a_project_hands_it_out_there_only(door: Gateway, corp: Issuer) -> None:
    await bind(door, "lab-admin", "user:corp:lea", "admin", projects=["lab"])
    lea = corp.token(sub="lea", groups=[])

    async def give(name: str, **where: Any) -> int:
        wanted = {"binding": name, "role": "admin", "principal": "user:corp:lea", **where}
        return int((await ask(door, lea, "POST", "/v1/bindings", wanted, x_project="lab")).status_code)

    assert await give("lea-everywhere") == 403
    assert await give("lea-elsewhere", projects=["office"]) == 403
    assert await give("lea-here", projects=["lab"]) == 200
    key = await ask(door, lea, "POST", "/v1/api-keys", {"permissions": ["models.*"]}, x_project="lab")
    assert (key.status_code, key.json()["code"]) == (403, "forbidden")
    widened = await ask(door, lea, "POST", "/v1/roles", {"role": "wide", "permissions": ["*"]}, x_project="lab")
    assert widened.status_code == 403
    silent = await ask(door, lea, "POST", "/v1/api-keys", {}, x_project="lab")
    assert silent.json()["api_key"]["permissions"] == []


async def test_whatever_bindings_give_no_user_administers_the_installation(door: Gateway, corp: Issuer) -> None:
    await bind(door, "chief", "user:corp:boss", "admin")
    chief = corp.token(sub="boss", groups=[])

    assert (await ask(door, chief, "POST", "/v1/tenants", {"tenant": "mine"})).status_code == 403
    assert (await ask(door, chief, "POST", "/v1/api-keys", {"permissions": ["*"]})).status_code == 403
    assert (await ask(door, chief, "POST", "/v1/api-keys", {"roles": ["viewer"]})).status_code == 200


@pytest.mark.parametrize(
    "who",
    [
        "user:unknown:ann",
        "user:partner:ann",  # an issuer of another tenant
        "group:partner:staff",
        "user:corp",
        "user:corp:",
        "user:corp:with space",
        "group:corp:",
        "group:corp:hidden\u200bname",
        "group:corp:" + "x" * 256,
        "people:corp:ann",
    ],
)
async def test_who_is_nobody_here_is_bound_to_nothing(door: Gateway, who: str) -> None:
    answer = await bind(door, "nobody", who)

    assert (answer.status_code, answer.json()["violations"][0]["pointer"]) == (422, "/principal")


async def test_a_tenant_binds_its_own_users(door: Gateway, corp: Issuer) -> None:
    acme = await door.key(tenant="acme")
    assert (await bind(door, "own", "user:partner:ann", "admin", acme)).status_code == 200
    foreign = await bind(door, "foreign", "user:corp:ann", "admin", acme)

    assert await may(door, corp.token(groups=[], aud="aimass-acme")) == 200
    assert foreign.json()["violations"][0]["pointer"] == "/principal"


async def test_many_bindings_for_many_objects_make_no_call_too_large(door: Gateway, corp: Issuer) -> None:
    for number in range(50):
        objects = [f"models/{'long-' * 12}{number}-{one}-*" for one in range(20)]
        assert (await bind(door, f"many-{number}", "group:corp:many", "developer", objects=objects)).status_code == 200
    token = corp.token(groups=["many"])

    assert await may(door, token, "/v1/whoami") == 200
    assert await may(door, token) == 403
    more = await bind(door, "one-more", "group:corp:many")
    assert (more.status_code, more.json()["code"]) == (422, "limit_exceeded")
