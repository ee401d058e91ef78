"""Roles that somebody has in some projects or for some objects only."""

from typing import Any

import grpc
import pytest

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import models_pb2
from aimass.v1.audit_events_pb2 import CallAudited
from aimass.v1.models_pb2_grpc import ModelsStub
from services.kit.status import failure_of
from tests.gateway.conftest import Gateway
from tests.gateway.test_access import heard
from tests.gateway.test_roles import ask, made, status

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def bound(gateway: Gateway, name: str, role: str, **where: list[str]) -> str:
    """A key that has nothing but a binding."""
    key = await gateway.key(bindings_only=True)
    wanted = {"binding": name, "role": role, "principal": f"key:{key[4:12]}", **where}
    answer = await ask(gateway, None, "POST", "/v1/bindings", wanted)
    assert answer.status_code == 200, answer.text
    return key


async def test_a_key_without_a_binding_may_nothing(gateway: Gateway) -> None:
    key = await gateway.key(bindings_only=True)

    assert await status(gateway, key, "/v1/whoami") == 200
    assert await status(gateway, key, "/v1/models/late") == 403


async def test_a_binding_counts_at_once_and_ends_at_once(gateway: Gateway) -> None:
    key = await bound(gateway, "comes-and-goes", "viewer")
    seen = [await status(gateway, key, "/v1/models/late")]
    read = await ask(gateway, None, "GET", "/v1/bindings/comes-and-goes")
    gone = await ask(gateway, None, "DELETE", "/v1/bindings/comes-and-goes", if_match=read.headers["etag"])
    seen.append(await status(gateway, key, "/v1/models/late"))
    missing = await ask(gateway, None, "GET", "/v1/bindings/comes-and-goes")
    await ask(gateway, None, "POST", "/v1/bindings/comes-and-goes:undelete", {})
    seen.append(await status(gateway, key, "/v1/models/late"))

    assert seen == [200, 403, 200]
    assert (gone.json()["etag"], missing.status_code) == ("2", 404)


async def test_a_role_in_some_projects_is_none_in_the_others(gateway: Gateway) -> None:
    key = await bound(gateway, "in-teams", "viewer", projects=["team-*", "flights"])

    answers = {p: await status(gateway, key, "/v1/models/late", x_project=p) for p in ("team-a", "flights", "trains")}
    assert answers == {"team-a": 200, "flights": 200, "trains": 403}
    assert await status(gateway, key, "/v1/models/late") == 403


async def test_a_role_for_some_objects_is_none_for_the_others(gateway: Gateway) -> None:
    key = await bound(gateway, "for-fraud", "developer", objects=["models/fraud-*", "models/late", "data-sets/fraud"])

    seen = {name: await status(gateway, key, f"/v1/models/{name}") for name in ("fraud-eu", "late", "fraud", "later")}
    assert seen == {"fraud-eu": 200, "late": 200, "fraud": 403, "later": 403}
    assert await status(gateway, key, "/v1/data-sets/fraud") == 200
    assert await status(gateway, key, "/v1/data-sets/fraud-eu") == 403
    made_here = await ask(gateway, key, "POST", "/v1/models", {"model": "fraud-new"})
    made_there = await ask(gateway, key, "POST", "/v1/models", {"model": "other"})
    assert (made_here.status_code, made_there.status_code) == (200, 403)
    assert made_there.json()["detail"] == "models.create is not permitted"


async def test_lists_and_whatever_names_further_objects_need_the_right_on_all(gateway: Gateway) -> None:
    key = await bound(gateway, "for-all-named", "developer", objects=["models/*", "pipelines/*", "sources/*"])
    pipeline = {"pipeline": "p", "steps": [{"data_set": "d", "sql": "SELECT * FROM secret", "inputs": ["secret"]}]}

    assert await status(gateway, key, "/v1/models") == 403
    assert await status(gateway, key, "/v1/pipelines/p") == 200
    assert (await ask(gateway, key, "POST", "/v1/pipelines", pipeline)).status_code == 403
    assert (await ask(gateway, key, "POST", "/v1/sources:preview", {"source": "any"})).status_code == 403


async def test_long_work_is_watched_by_who_has_operations_as_well(gateway: Gateway) -> None:
    blind = await bound(gateway, "starts", "operator", objects=["models/late"])
    seeing = await bound(gateway, "starts-and-sees", "operator", objects=["models/late", "operations/*"])

    for key, seen in ((blind, 403), (seeing, 200)):
        begun = await ask(gateway, key, "POST", "/v1/models/late/versions/1:promote", {})
        assert begun.status_code == 202, begun.text
        assert await status(gateway, key, "/v1/operations/trainer-0198") == seen


async def test_a_right_on_some_objects_is_one_on_them_over_grpc(gateway: Gateway) -> None:
    key = await bound(gateway, "over-grpc", "viewer", objects=["models/fraud-*"])
    codes = {}
    async with grpc.aio.insecure_channel(gateway.doors["grpc"]) as channel:
        for name in ("fraud-eu", "late"):
            try:
                request = models_pb2.GetModelRequest(model=name)
                await ModelsStub(channel).GetModel(request, metadata=(("authorization", f"Bearer {key}"),))
                codes[name] = "ok"
            except grpc.aio.AioRpcError as error:
                codes[name] = failure_of(error, "gateway").code.text

    assert codes == {"fraud-eu": "ok", "late": "forbidden"}


@pytest.mark.parametrize("path", ["/v1/models/late", "/v1/logs:tail?query=a"])
async def test_what_is_refused_is_in_the_audit_trail_also_of_streams(gateway: Gateway, path: str) -> None:
    key = await gateway.key(bindings_only=True)
    named = f"refused-{len(path)}"

    assert await status(gateway, key, path, x_request_id=named) == 403
    event = (await heard(gateway, CallAudited, named))[0]
    assert (event.outcome, event.principal) == ("forbidden", f"key:{key[4:12]}")


async def test_roles_and_bindings_that_change_are_told(gateway: Gateway) -> None:
    await bound(gateway, "told-of", "viewer", objects=["models/late"])
    await made(gateway, "told-role", "models.get")
    await ask(gateway, None, "DELETE", "/v1/roles/told-role", if_match="*")

    [binding] = await heard(gateway, events.BindingChanged, "told-of")
    assert (binding.generation, list(binding.binding.objects)) == (1, ["models/late"])
    role = (await heard(gateway, events.RoleChanged, "told-role"))[0]
    assert (role.generation, list(role.role.permissions)) == (1, ["models.get"])


async def test_the_service_is_told_of_this_object_only(gateway: Gateway) -> None:
    key = await bound(gateway, "told", "viewer", objects=[f"models/m{number}-*" for number in range(20)])
    await status(gateway, key, "/v1/models/m7-a")
    seen = gateway.services["aimass.v1.Models"].seen[-1].principal

    assert seen.id == f"key:{key[4:12]}"
    assert seen.permissions == ("models.get@models/m7-*",)


async def test_who_has_a_role_for_some_objects_hands_out_no_more(gateway: Gateway) -> None:
    await made(gateway, "giver", "models.get", "bindings.create", "api_keys.create")
    giver = await gateway.key(permissions=["bindings.create", "api_keys.create"])
    own = {"binding": "giver-own", "role": "giver", "principal": f"key:{giver[4:12]}", "objects": ["models/fraud-*"]}
    await ask(gateway, None, "POST", "/v1/bindings", own)
    await made(gateway, "gets", "models.get")
    to = await gateway.key(bindings_only=True)

    async def give(name: str, **where: list[str]) -> int:
        wanted = {"binding": name, "role": "gets", "principal": f"key:{to[4:12]}", **where}
        return int((await ask(gateway, giver, "POST", "/v1/bindings", wanted)).status_code)

    assert await give("given-all") == 403
    assert await give("given-more", objects=["models/*"]) == 403
    assert await give("given-other", objects=["models/late"]) == 403
    assert await give("given-part", objects=["models/fraud-eu*"], projects=["flights"]) == 200
    assert (await ask(gateway, giver, "POST", "/v1/api-keys", {"permissions": ["models.get"]})).status_code == 403


async def test_who_has_some_projects_only_binds_nobody_elsewhere(gateway: Gateway) -> None:
    giver, to = await gateway.key(projects=["flights"]), await gateway.key(bindings_only=True)

    async def give(name: str, **where: list[str]) -> int:
        wanted = {"binding": name, "role": "admin", "principal": f"key:{to[4:12]}", **where}
        return int((await ask(gateway, giver, "POST", "/v1/bindings", wanted, x_project="flights")).status_code)

    assert await give("everywhere") == 403
    assert await give("flights-and-more", projects=["flights", "trains"]) == 403
    assert await give("flights-only", projects=["flights"]) == 200


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"principal": "key:zzzzzzzz"}, "/principal"),
        ({"principal": "service:data"}, "/principal"),
        ({"role": "nothing"}, "/role"),
        ({"projects": ["A"]}, "/projects/0"),
        ({"objects": ["models"]}, "/objects/0"),
    ],
)
async def test_a_wrong_binding_is_named(gateway: Gateway, change: dict[str, Any], pointer: str) -> None:
    wanted = {"binding": "wrong", "role": "viewer", "principal": f"key:{gateway.admin[4:12]}"} | change
    answer = await ask(gateway, None, "POST", "/v1/bindings", wanted)

    assert (answer.status_code, answer.json()["violations"][0]["pointer"]) == (422, pointer)


async def test_another_tenants_keys_and_bindings_are_not_there(gateway: Gateway) -> None:
    key = await bound(gateway, "foreign", "viewer")
    stranger = await gateway.tenant("bindings-stranger")
    wanted = {"binding": "mine", "role": "viewer", "principal": f"key:{key[4:12]}"}

    assert (await ask(gateway, stranger, "POST", "/v1/bindings", wanted)).status_code == 422
    assert await status(gateway, stranger, "/v1/bindings/foreign") == 404
    assert await status(gateway, stranger, "/v1/bindings/foreign", "DELETE", if_match="*") == 404
    assert (await ask(gateway, stranger, "GET", "/v1/bindings")).json()["bindings"] == []


async def test_one_key_has_fifty_bindings_at_most(gateway: Gateway) -> None:
    key = await gateway.key(bindings_only=True)

    async def give(number: int) -> Any:
        wanted = {"binding": f"many-{number}", "role": "viewer", "principal": f"key:{key[4:12]}"}
        return await ask(gateway, None, "POST", "/v1/bindings", wanted)

    assert {(await give(number)).status_code for number in range(50)} == {200}
    assert (await give(50)).json()["code"] == "limit_exceeded"
    await ask(gateway, None, "DELETE", "/v1/bindings/many-0", if_match="*")
    assert (await give(51)).status_code == 200


async def test_pages_of_bindings_hold_each_once(gateway: Gateway) -> None:
    tenant = await gateway.tenant("bindings-paged")
    for name in ("a", "b", "c"):
        wanted = {"binding": name, "role": "viewer", "principal": f"key:{tenant[4:12]}"}
        assert (await ask(gateway, tenant, "POST", "/v1/bindings", wanted)).status_code == 200
    first = (await ask(gateway, tenant, "GET", "/v1/bindings?page_size=2")).json()
    second = (await ask(gateway, tenant, "GET", f"/v1/bindings?page_token={first['next_page_token']}")).json()

    assert [one["binding"] for one in (*first["bindings"], *second["bindings"])] == ["a", "b", "c"]
