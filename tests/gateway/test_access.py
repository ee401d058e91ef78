import asyncio
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1.audit_events_pb2 import CallAudited
from services.kit.config import ConfigError
from tests.gateway.conftest import Gateway, gateway_at

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def ask(gateway: Gateway, key: str | None, verb: str, path: str, **options: Any) -> Any:
    async with gateway.client(key) as client:
        return await client.request(verb, path, **options)


async def who(gateway: Gateway, key: str, **headers: str) -> int:
    return int((await ask(gateway, key, "GET", "/v1/whoami", headers=headers)).status_code)


async def test_the_first_start_makes_two_tenants_and_a_key_for_its_owner_only(gateway: Gateway) -> None:
    file = gateway.home / "admin-key"
    tenants = (await ask(gateway, None, "GET", "/v1/tenants")).json()["tenants"]

    assert {"default", "system"} <= {tenant["tenant"] for tenant in tenants}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().count("\n") == 1
    assert stat.S_IMODE((gateway.home / "keys" / "pepper").stat().st_mode) == 0o600


async def test_a_tenant_is_made_read_listed_closed_and_opened(gateway: Gateway) -> None:
    made = await ask(gateway, None, "POST", "/v1/tenants", json={"tenant": "alpha", "display_name": "Alpha"})
    read = await ask(gateway, None, "GET", "/v1/tenants/alpha")
    key = await gateway.key(tenant="alpha")
    closed = await ask(gateway, None, "DELETE", "/v1/tenants/alpha", headers={"if-match": made.headers["etag"]})
    gone = await ask(gateway, None, "GET", "/v1/tenants/alpha")
    refused = await who(gateway, key)
    opened = await ask(gateway, None, "POST", "/v1/tenants/alpha:undelete", json={})

    assert made.json() == read.json()
    assert (closed.json()["etag"], bool(closed.json()["delete_time"])) == ("2", True)
    assert (gone.status_code, refused) == (404, 401)
    assert (opened.json()["etag"], "delete_time" in opened.json()) == ("3", False)
    assert await who(gateway, key) == 200


async def test_closing_a_tenant_needs_its_etag(gateway: Gateway) -> None:
    await gateway.tenant("beta")

    stale = await ask(gateway, None, "DELETE", "/v1/tenants/beta", headers={"if-match": '"9"'})
    unsaid = await ask(gateway, None, "DELETE", "/v1/tenants/beta")
    assert (stale.status_code, stale.json()["code"]) == (412, "etag_mismatch")
    assert unsaid.json()["code"] == "etag_required"


async def test_the_installations_own_tenants_stay(gateway: Gateway) -> None:
    answer = await ask(gateway, None, "DELETE", "/v1/tenants/system", headers={"if-match": '"1"'})

    assert (answer.status_code, answer.json()["code"]) == (409, "failed_precondition")


async def test_a_name_is_taken_once_and_for_ever(gateway: Gateway) -> None:
    await ask(gateway, None, "POST", "/v1/tenants", json={"tenant": "gamma"})
    again = await ask(gateway, None, "POST", "/v1/tenants", json={"tenant": "gamma"})
    await ask(gateway, None, "DELETE", "/v1/tenants/gamma", headers={"if-match": '"1"'})
    later = await ask(gateway, None, "POST", "/v1/tenants", json={"tenant": "gamma"})

    assert {again.json()["code"], later.json()["code"]} == {"already_exists"}


async def test_a_repeated_creation_has_one_effect_and_one_answer(gateway: Gateway) -> None:
    headers = {"idempotency-key": "tenant-1"}
    first = await ask(gateway, None, "POST", "/v1/tenants", json={"tenant": "delta"}, headers=headers)
    second = await ask(gateway, None, "POST", "/v1/tenants", json={"tenant": "delta"}, headers=headers)
    other = await ask(gateway, None, "POST", "/v1/tenants", json={"tenant": "epsilon"}, headers=headers)

    assert first.json() == second.json()
    assert ("idempotency-replayed" in first.headers, second.headers["idempotency-replayed"]) == (False, "true")
    assert other.json()["code"] == "key_reused"


async def test_another_tenant_sees_itself_only(gateway: Gateway) -> None:
    key = await gateway.tenant("zeta")
    listed = (await ask(gateway, key, "GET", "/v1/tenants")).json()["tenants"]
    own = await ask(gateway, key, "GET", "/v1/tenants/zeta")
    foreign = await ask(gateway, key, "GET", "/v1/tenants/default")
    missing = await ask(gateway, key, "GET", "/v1/tenants/nothing")

    assert [tenant["tenant"] for tenant in listed] == ["zeta"]
    assert own.status_code == 200
    assert (foreign.status_code, missing.status_code) == (404, 404)
    assert foreign.json()["detail"] == "there is no tenant default"


@pytest.mark.parametrize(
    ("verb", "path", "body", "status"),
    [
        ("POST", "/v1/tenants", {"tenant": "mine"}, 403),
        ("DELETE", "/v1/tenants/eta", None, 403),
        ("POST", "/v1/tenants/eta:undelete", {}, 403),
        ("DELETE", "/v1/tenants/default", None, 404),
        ("POST", "/v1/tenants/default:undelete", {}, 404),
        ("POST", "/v1/api-keys", {"tenant": "default"}, 404),
    ],
)
async def test_another_tenants_star_administers_nothing(
    gateway: Gateway, verb: str, path: str, body: Any, status: int
) -> None:
    key = await gateway.tenant("eta") if "eta" not in _keys else _keys["eta"]
    _keys["eta"] = key

    answer = await ask(gateway, key, verb, path, json=body, headers={"if-match": '"1"'})
    assert answer.status_code == status


_keys: dict[str, str] = {}


async def test_pages_of_tenants_hold_each_once(gateway: Gateway) -> None:
    for number in range(3):
        await gateway.tenant(f"page-{number}")
    found: list[str] = []
    token = ""
    while True:
        page = (await ask(gateway, None, "GET", "/v1/tenants", params={"page_size": 2, "page_token": token})).json()
        found += [tenant["tenant"] for tenant in page["tenants"]]
        if not (token := page["next_page_token"]):
            break

    assert found == sorted(set(found))
    assert {"page-0", "page-1", "page-2", "default"} <= set(found)


async def test_a_key_is_shown_once(gateway: Gateway) -> None:
    made = (await ask(gateway, None, "POST", "/v1/api-keys", json={"display_name": "notebook"})).json()
    read = (await ask(gateway, None, "GET", f"/v1/api-keys/{made['api_key']['api_key']}")).json()

    assert made["secret"].startswith(f"aim_{read['api_key']}_")
    assert len(made["secret"]) == 56
    assert (read["display_name"], read["permissions"], "secret" in read) == ("notebook", ["*"], False)
    assert made["secret"][13:] not in json.dumps(read)


async def test_a_repeated_creation_of_a_key_makes_one_and_shows_its_secret_again(gateway: Gateway) -> None:
    headers, wanted = {"idempotency-key": "notebook-1"}, {"display_name": "repeated"}
    first = await ask(gateway, None, "POST", "/v1/api-keys", json=wanted, headers=headers)
    second = await ask(gateway, None, "POST", "/v1/api-keys", json=wanted, headers=headers)
    other = await ask(gateway, None, "POST", "/v1/api-keys", json={}, headers=headers)
    listed = (await ask(gateway, None, "GET", "/v1/api-keys", params={"page_size": 1000})).json()["api_keys"]

    assert (first.status_code, second.json()) == (200, first.json())
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert [key["display_name"] for key in listed].count("repeated") == 1
    assert await who(gateway, second.json()["secret"]) == 200


async def test_no_secret_is_on_the_disk_but_the_first(gateway: Gateway) -> None:
    headers = {"idempotency-key": "canary-1"}
    made = await ask(gateway, None, "POST", "/v1/api-keys", json={"display_name": "canary"}, headers=headers)
    secret = made.json()["secret"][13:].encode()
    kept = [path for path in gateway.home.rglob("*") if path.is_file() and secret in path.read_bytes()]

    assert kept == []


async def test_a_revoked_key_stops_at_once(gateway: Gateway) -> None:
    key = await gateway.key()
    before = await who(gateway, key)
    prefix = key[4:12]
    revoked = await ask(gateway, None, "DELETE", f"/v1/api-keys/{prefix}")
    after = await who(gateway, key)
    again = await ask(gateway, None, "DELETE", f"/v1/api-keys/{prefix}")
    read = await ask(gateway, None, "GET", f"/v1/api-keys/{prefix}")

    assert (before, after) == (200, 401)
    assert (revoked.status_code, again.status_code, revoked.json()) == (200, 200, {})
    assert read.json()["revoke_time"]


async def test_the_last_key_that_administers_cannot_be_revoked(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as alone:
        answer = await ask(alone, None, "DELETE", f"/v1/api-keys/{alone.admin[4:12]}")

    assert (answer.status_code, answer.json()["code"]) == (409, "failed_precondition")


async def test_a_foreign_key_is_not_found(gateway: Gateway) -> None:
    key = await gateway.tenant("theta")
    prefix = gateway.admin[4:12]

    assert (await ask(gateway, key, "GET", f"/v1/api-keys/{prefix}")).status_code == 404
    assert (await ask(gateway, key, "DELETE", f"/v1/api-keys/{prefix}")).status_code == 404
    listed = (await ask(gateway, key, "GET", "/v1/api-keys")).json()["api_keys"]
    assert [found["tenant"] for found in listed] == ["theta"]


async def test_keys_are_listed_oldest_first_a_page_at_a_time(gateway: Gateway) -> None:
    key = await gateway.tenant("iota")
    for number in range(4):
        await ask(gateway, key, "POST", "/v1/api-keys", json={"display_name": str(number)})
    names: list[str] = []
    token = ""
    while True:
        page = (await ask(gateway, key, "GET", f"/v1/api-keys?page_size=2&page_token={token}")).json()
        names += [found["display_name"] for found in page["api_keys"]]
        if not (token := page["next_page_token"]):
            break

    assert names == ["", "0", "1", "2", "3"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"permissions": ["*"]},
        {"permissions": ["models.*", "jobs.get"]},
        {"permissions": ["model.get"]},
        {"projects": ["b"]},
        {"expire_time": "2999-01-01T00:00:00Z"},
        {"rate_limit": {"rate": 1000, "burst": 10}},
    ],
)
async def test_a_key_never_grants_more_than_its_maker_has(gateway: Gateway, wanted: dict[str, Any]) -> None:
    ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    limit = {"rate": 100, "burst": 100}
    own = {"permissions": ["models.*", "api_keys.create"], "projects": ["a"], "expire_time": ends, "rate_limit": limit}
    maker = await gateway.key(**own)
    answer = await ask(gateway, maker, "POST", "/v1/api-keys", json=wanted, headers={"x-project": "a"})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_what_a_maker_does_not_say_is_taken_from_his_key(gateway: Gateway) -> None:
    maker = await gateway.key(permissions=["models.*", "api_keys.create"], projects=["a", "b"])
    wanted = {"permissions": ["models.get"]}
    made = (await ask(gateway, maker, "POST", "/v1/api-keys", json=wanted, headers={"x-project": "a"})).json()

    assert made["api_key"]["projects"] == ["a", "b"]
    assert made["api_key"]["permissions"] == ["models.get"]


async def test_a_key_works_in_its_projects_only(gateway: Gateway) -> None:
    key = await gateway.key(projects=["flights"])

    assert await who(gateway, key, **{"x-project": "flights"}) == 200
    assert await who(gateway, key, **{"x-project": "trains"}) == 403
    assert await who(gateway, key) == 403


async def test_a_key_may_do_what_it_holds_only(gateway: Gateway) -> None:
    key = await gateway.key(permissions=["models.get"])

    assert (await ask(gateway, key, "GET", "/v1/models/late")).status_code == 200
    denied = await ask(gateway, key, "GET", "/v1/models")
    assert (denied.status_code, denied.json()["detail"]) == (403, "models.list is not permitted")


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"permissions": ["models"]}, "/permissions/0"),
        ({"permissions": ["*", "a.*.b"]}, "/permissions/1"),
        ({"projects": ["A"]}, "/projects/0"),
        ({"rate_limit": {"rate": 0, "burst": 5}}, "/rate_limit"),
        ({"rate_limit": {"rate": "NaN", "burst": 5}}, "/rate_limit"),
        ({"expire_time": "2001-01-01T00:00:00Z"}, "/expire_time"),
        ({"tenant": "A"}, "/tenant"),
    ],
)
async def test_a_wrong_wish_is_named(gateway: Gateway, wanted: dict[str, Any], pointer: str) -> None:
    answer = await ask(gateway, None, "POST", "/v1/api-keys", json=wanted)

    assert answer.status_code == 422
    assert [violation["pointer"] for violation in answer.json()["violations"]] == [pointer]


async def test_changes_and_audited_calls_are_told(gateway: Gateway) -> None:
    key = await gateway.tenant("kappa")
    await ask(gateway, key, "POST", "/v1/tenants", json={"tenant": "no"}, headers={"x-request-id": "audit-1"})

    audited = (await heard(gateway, CallAudited, "audit-1"))[0]
    changed = await heard(gateway, events.TenantChanged, "kappa")
    keys = await heard(gateway, events.ApiKeyChanged, key[4:12])
    assert (audited.method, audited.outcome, audited.resource) == (
        "aimass.v1.Access/CreateTenant",
        "forbidden",
        "tenants/no",
    )
    assert audited.principal == f"key:{key[4:12]}"
    assert changed[0].tenant.tenant == "kappa"
    assert keys[0].generation == 1


async def heard(gateway: Gateway, kind: Any, text: str) -> list[Any]:
    count = 1
    while True:
        found = [message for message in await gateway.house.heard(kind, count) if text in str(message)]
        if found:
            return found
        count += 1


async def test_a_restart_keeps_tenants_keys_and_revocations(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as first:
        admin, tenant = first.admin, await first.tenant("acme")
        revoked = await first.key()
        await ask(first, None, "DELETE", f"/v1/api-keys/{revoked[4:12]}")
    assert not (tmp_path / "doors.json").exists()
    async with gateway_at(tmp_path) as second:
        assert second.admin == admin
        assert [await who(second, key) for key in (admin, tenant, revoked)] == [200, 200, 401]


async def test_a_first_start_that_was_cut_goes_on(tmp_path: Path) -> None:
    secret = "aim_abcdefgh_" + "x" * 43
    (tmp_path / "admin-key").write_text(secret + "\n")
    async with gateway_at(tmp_path) as running:
        assert await who(running, secret) == 200
        assert running.admin == secret


async def test_a_lost_pepper_stops_the_start(tmp_path: Path) -> None:
    async with gateway_at(tmp_path):
        pass
    (tmp_path / "keys" / "pepper").unlink()
    with pytest.raises(ConfigError, match="pepper is gone"):
        async with gateway_at(tmp_path):
            pass


async def test_an_expired_key_is_refused(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as running:
        end = datetime.now(UTC) + timedelta(seconds=3)
        key = await running.key(expire_time=end.isoformat())
        before = await who(running, key)
        await asyncio.sleep((end - datetime.now(UTC)).total_seconds())

        assert (before, await who(running, key)) == (200, 401)
