"""Roles over the door: built in and made, given to keys, changed and taken away."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def ask(gateway: Gateway, key: str | None, verb: str, path: str, body: Any = None, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.client(key, **named) as client:
        return await client.request(verb, path, json=body)


async def made(gateway: Gateway, name: str, *permissions: str, key: str | None = None) -> Any:
    answer = await ask(gateway, key, "POST", "/v1/roles", {"role": name, "permissions": permissions})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def status(gateway: Gateway, key: str, path: str, verb: str = "GET", **headers: str) -> int:
    return int((await ask(gateway, key, verb, path, **headers)).status_code)


async def test_built_in_roles_are_there_for_every_tenant(gateway: Gateway) -> None:
    key = await gateway.tenant("roles-built")
    listed = (await ask(gateway, key, "GET", "/v1/roles")).json()["roles"]
    viewer = (await ask(gateway, key, "GET", "/v1/roles/viewer")).json()

    assert [role["role"] for role in listed] == ["admin", "developer", "operator", "viewer"]
    assert viewer in listed
    assert (viewer["built_in"], "models.get" in viewer["permissions"]) == (True, True)


@pytest.mark.parametrize(
    ("verb", "path", "body", "code"),
    [
        ("PATCH", "/v1/roles/viewer", {"permissions": ["*"]}, "failed_precondition"),
        ("DELETE", "/v1/roles/admin", None, "failed_precondition"),
        ("POST", "/v1/roles/admin:undelete", {}, "failed_precondition"),
        ("POST", "/v1/roles", {"role": "viewer", "permissions": ["*"]}, "already_exists"),
    ],
)
async def test_built_in_roles_stay_as_they_are(gateway: Gateway, verb: str, path: str, body: Any, code: str) -> None:
    answer = await ask(gateway, None, verb, path, body, if_match='"1"')

    assert answer.json()["code"] == code


async def test_a_key_with_a_role_may_what_the_role_may(gateway: Gateway) -> None:
    key = await gateway.key(roles=["viewer"])

    assert await status(gateway, key, "/v1/models/late") == 200
    assert await status(gateway, key, "/v1/models") == 200
    denied = await ask(gateway, key, "POST", "/v1/models", {"model": "new"})
    assert (denied.status_code, denied.json()["detail"]) == (403, "models.create is not permitted")


async def test_a_key_may_have_permissions_and_roles(gateway: Gateway) -> None:
    key = await gateway.key(roles=["viewer"], permissions=["jobs.cancel"])
    shown = (await ask(gateway, key, "GET", "/v1/whoami")).json()

    assert {"jobs.cancel", "models.get"} <= set(shown["permissions"])
    read = (await ask(gateway, None, "GET", f"/v1/api-keys/{key[4:12]}")).json()
    assert (read["permissions"], read["roles"]) == (["jobs.cancel"], ["viewer"])


async def test_a_role_is_made_read_changed_deleted_and_undeleted(gateway: Gateway) -> None:
    first = await made(gateway, "reader", "models.get")
    read = await ask(gateway, None, "GET", "/v1/roles/reader")
    body = {"description": "reads", "permissions": ["models.get", "jobs.get"]}
    changed = await ask(gateway, None, "PATCH", "/v1/roles/reader", body, if_match=read.headers["etag"])
    stale = await ask(gateway, None, "PATCH", "/v1/roles/reader", body, if_match='"1"')
    gone = await ask(gateway, None, "DELETE", "/v1/roles/reader", if_match='"2"')
    missing = await ask(gateway, None, "GET", "/v1/roles/reader")
    again = await ask(gateway, None, "POST", "/v1/roles", {"role": "reader", "permissions": ["*"]})
    back = await ask(gateway, None, "POST", "/v1/roles/reader:undelete", {})

    assert read.json() == first
    assert (changed.json()["etag"], changed.json()["permissions"]) == ("2", ["models.get", "jobs.get"])
    assert (stale.status_code, stale.json()["code"]) == (412, "etag_mismatch")
    assert gone.json()["delete_time"]
    assert (missing.status_code, again.json()["code"]) == (404, "already_exists")
    assert (back.json()["etag"], back.json()["description"]) == ("4", "reads")


async def test_a_mask_says_what_changes(gateway: Gateway) -> None:
    await made(gateway, "masked", "models.get")
    body = {"description": "new", "permissions": ["*"], "update_mask": "description"}
    changed = await ask(gateway, None, "PATCH", "/v1/roles/masked", body, if_match="*")
    wrong = await ask(gateway, None, "PATCH", "/v1/roles/masked", {"update_mask": "role"}, if_match="*")

    assert (changed.json()["description"], changed.json()["permissions"]) == ("new", ["models.get"])
    assert wrong.json()["violations"][0]["pointer"] == "/update_mask"


async def test_what_a_role_says_counts_at_once(gateway: Gateway) -> None:
    await made(gateway, "shifting", "models.get")
    key = await gateway.key(roles=["shifting"])
    seen = [await status(gateway, key, "/v1/models/late")]
    await ask(gateway, None, "PATCH", "/v1/roles/shifting", {"permissions": ["jobs.get"]}, if_match="*")
    seen.append(await status(gateway, key, "/v1/models/late"))
    await ask(gateway, None, "PATCH", "/v1/roles/shifting", {"permissions": ["models.*"]}, if_match="*")
    seen.append(await status(gateway, key, "/v1/models/late"))
    await ask(gateway, None, "DELETE", "/v1/roles/shifting", if_match="*")
    seen.append(await status(gateway, key, "/v1/models/late"))
    await ask(gateway, None, "POST", "/v1/roles/shifting:undelete", {})
    seen.append(await status(gateway, key, "/v1/models/late"))

    assert seen == [200, 403, 200, 403, 200]


async def test_another_tenants_role_is_not_there(gateway: Gateway) -> None:
    await made(gateway, "hidden", "models.get")
    stranger = await gateway.tenant("roles-stranger")

    for verb, path, body in (
        ("GET", "/v1/roles/hidden", None),
        ("PATCH", "/v1/roles/hidden", {"permissions": ["*"]}),
        ("DELETE", "/v1/roles/hidden", None),
        ("POST", "/v1/roles/hidden:undelete", {}),
    ):
        answer = await ask(gateway, stranger, verb, path, body, if_match='"1"')
        assert (answer.status_code, answer.json()["detail"]) == (404, "there is no role hidden")
    wanted = await ask(gateway, stranger, "POST", "/v1/api-keys", {"roles": ["hidden"]})
    assert (wanted.status_code, wanted.json()["violations"][0]["pointer"]) == (422, "/roles/0")
    own = await made(gateway, "hidden", "jobs.get", key=stranger)
    assert own["permissions"] == ["jobs.get"]


async def test_a_repeated_creation_makes_one(gateway: Gateway) -> None:
    body = {"role": "once", "permissions": ["models.get"]}
    answers = [await ask(gateway, None, "POST", "/v1/roles", body, idempotency_key="role-1") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"


async def test_pages_hold_each_role_once(gateway: Gateway) -> None:
    key = await gateway.tenant("roles-paged")
    for name in ("aa", "between", "zz"):
        await made(gateway, name, "models.get", key=key)
    await ask(gateway, key, "DELETE", "/v1/roles/zz", if_match="*")
    found: dict[bool, list[str]] = {}
    for deleted in (False, True):
        token, names = "", []
        while True:
            path = f"/v1/roles?page_size=2&page_token={token}&show_deleted={str(deleted).lower()}"
            page = (await ask(gateway, key, "GET", path)).json()
            names += [role["role"] for role in page["roles"]]
            if not (token := page["next_page_token"]):
                break
        found[deleted] = names

    assert found[False] == ["aa", "admin", "between", "developer", "operator", "viewer"]
    assert found[True] == [*found[False], "zz"]


LIMITED = ["models.get", "roles.*", "api_keys.create", "bindings.*"]


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("POST", "/v1/roles", {"role": "more", "permissions": ["models.*"]}),
        ("POST", "/v1/roles", {"role": "all", "permissions": ["*"]}),
        ("PATCH", "/v1/roles/small", {"permissions": ["models.get", "models.delete"]}),
        ("POST", "/v1/roles/strong:undelete", {}),
        ("POST", "/v1/api-keys", {"roles": ["admin"]}),
        ("POST", "/v1/api-keys", {"roles": ["small", "viewer"]}),
        ("POST", "/v1/bindings", {"binding": "own", "role": "admin", "principal": "key:{own}"}),
    ],
)
async def test_nobody_hands_out_what_he_lacks(gateway: Gateway, verb: str, path: str, body: Any) -> None:
    if (await ask(gateway, None, "GET", "/v1/roles/small")).status_code == 404:
        await made(gateway, "small", "models.get")
        await made(gateway, "strong", "jobs.*")
        await ask(gateway, None, "DELETE", "/v1/roles/strong", if_match="*")
    key = await gateway.key(permissions=LIMITED)
    sent = {name: value.replace("{own}", key[4:12]) if name == "principal" else value for name, value in body.items()}
    answer = await ask(gateway, key, verb, path, sent, if_match="*")

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "cannot hand it out" in answer.json()["detail"]


async def test_what_a_maker_has_by_a_role_he_may_hand_out(gateway: Gateway) -> None:
    await made(gateway, "maker", *LIMITED)
    maker = await gateway.key(roles=["maker"])
    silent = (await ask(gateway, maker, "POST", "/v1/api-keys", {})).json()["api_key"]
    narrow = await ask(gateway, maker, "POST", "/v1/api-keys", {"permissions": ["models.get"]})

    assert (silent["permissions"], silent["roles"]) == ([], ["maker"])
    assert narrow.json()["api_key"]["permissions"] == ["models.get"]


async def test_a_key_that_ends_widens_no_role_and_binds_no_key_that_does_not(gateway: Gateway) -> None:
    await made(gateway, "widening", "models.get")
    ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    maker, lasting = await gateway.key(expire_time=ends), await gateway.key(bindings_only=True)
    widened = await ask(gateway, maker, "PATCH", "/v1/roles/widening", {"permissions": ["models.*"]}, if_match="*")
    wanted = {"binding": "lasting", "role": "viewer", "principal": f"key:{lasting[4:12]}"}
    bound = await ask(gateway, maker, "POST", "/v1/bindings", wanted)
    narrowed = await ask(gateway, maker, "PATCH", "/v1/roles/widening", {"description": "same"}, if_match="*")

    assert {widened.json()["detail"], bound.json()["detail"]} == {"a key that expires cannot give what outlives it"}
    assert narrowed.status_code == 200


async def test_an_admin_by_role_makes_no_key_that_administers_the_installation(gateway: Gateway) -> None:
    key = await gateway.key(roles=["admin"])
    answer = await ask(gateway, key, "POST", "/v1/api-keys", {"permissions": ["*"]})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_an_admin_of_the_first_tenant_by_role_does_not_administer_the_installation(gateway: Gateway) -> None:
    key = await gateway.key(roles=["admin"])

    assert await status(gateway, key, "/v1/models/late") == 200
    answer = await ask(gateway, key, "POST", "/v1/tenants", {"tenant": "by-role"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize("more", [{"roles": ["viewer"]}, {"permissions": ["models.get"]}])
async def test_a_key_with_nothing_cannot_have_something_as_well(gateway: Gateway, more: Any) -> None:
    answer = await ask(gateway, None, "POST", "/v1/api-keys", {"bindings_only": True, **more})

    assert answer.json()["violations"][0]["pointer"] == "/bindings_only"
