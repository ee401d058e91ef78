"""Keys that are changed, get another secret, and are for some addresses and models only."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from aimass import Client
from aimass.v1 import access_pb2
from aimass.v1 import gateway_events_pb2 as events
from aimass.v1.access_pb2_grpc import AccessStub
from services.kit.status import failure_of
from tests.gateway.conftest import Gateway, gateway_at
from tests.gateway.test_roles import ask, status

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway without services behind it."""
    quick = {"AIMASS_GATEWAY_RATE": "100000", "AIMASS_GATEWAY_BURST": "100000"}
    async with gateway_at(tmp_path_factory.mktemp("home"), **quick) as running:
        yield running


async def made(gateway: Gateway, **wanted: Any) -> Any:
    answer = await ask(gateway, None, "POST", "/v1/api-keys", wanted)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def change(gateway: Gateway, name: str, key: str | None = None, etag: str = "*", **wanted: Any) -> Any:
    return await ask(gateway, key, "PATCH", f"/v1/api-keys/{name}", wanted, if_match=etag)


async def rotate(gateway: Gateway, name: str, key: str | None = None, **wanted: Any) -> Any:
    headers = {"idempotency_key": wanted.pop("once")} if "once" in wanted else {}
    return await ask(gateway, key, "POST", f"/v1/api-keys/{name}:rotate", wanted, **headers)


def later(**span: float) -> str:
    return (datetime.now(UTC) + timedelta(**span)).isoformat()


async def test_what_the_mask_names_changes_and_the_rest_stays(alone: Gateway) -> None:
    first = await made(alone, display_name="old", permissions=["models.get"], rate_limit={"rate": 5, "burst": 6})
    name, ends = first["api_key"]["api_key"], later(days=2)
    wanted: dict[str, Any] = {
        "display_name": "new",
        "expire_time": ends,
        "permissions": ["*"],
        "update_mask": "displayName,expireTime",
    }
    changed = (await change(alone, name, etag='"1"', **wanted)).json()
    read = (await ask(alone, None, "GET", f"/v1/api-keys/{name}")).json()

    assert changed.get("secret", "") == ""
    assert changed["api_key"] == read
    assert (read["display_name"], read["permissions"], read["etag"]) == ("new", ["models.get"], "2")
    assert (read["rate_limit"], read["expire_time"][:16]) == ({"rate": 5, "burst": 6}, ends[:16])
    assert await status(alone, first["secret"], "/v1/whoami") == 200


async def test_what_is_set_changes_where_there_is_no_mask_and_a_mask_clears(alone: Gateway) -> None:
    name = (await made(alone, rate_limit={"rate": 5, "burst": 6}, expire_time=later(days=1)))["api_key"]["api_key"]
    set_ = (await change(alone, name, rate_limit={"rate": 7, "burst": 8})).json()["api_key"]
    cleared = (await change(alone, name, update_mask="rateLimit,expireTime")).json()["api_key"]

    assert set_["rate_limit"] == {"rate": 7, "burst": 8}
    assert set_["expire_time"]
    assert not cleared.get("rate_limit")
    assert not cleared.get("expire_time")


async def test_an_etag_that_is_old_changes_nothing(alone: Gateway) -> None:
    name = (await made(alone))["api_key"]["api_key"]
    await change(alone, name, etag='"1"', display_name="first")
    stale = await change(alone, name, etag='"1"', display_name="second")
    unsaid = await ask(alone, None, "PATCH", f"/v1/api-keys/{name}", {"display_name": "third"})

    assert (stale.status_code, stale.json()["code"]) == (412, "etag_mismatch")
    assert (unsaid.status_code, unsaid.json()["code"]) == (428, "etag_required")
    assert (await ask(alone, None, "GET", f"/v1/api-keys/{name}")).json()["display_name"] == "first"


async def test_a_change_counts_at_once(alone: Gateway) -> None:
    first = await made(alone, permissions=["roles.list"])
    name, secret = first["api_key"]["api_key"], first["secret"]
    seen = [await status(alone, secret, "/v1/roles")]
    await change(alone, name, permissions=["models.get"])
    seen.append(await status(alone, secret, "/v1/roles"))
    await change(alone, name, permissions=["roles.*"])
    seen.append(await status(alone, secret, "/v1/roles"))
    await change(alone, name, expire_time=later(milliseconds=300))
    await asyncio.sleep(0.4)
    seen.append(await status(alone, secret, "/v1/roles"))

    assert seen == [200, 403, 200, 401]


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"update_mask": "tenant"}, "/update_mask"),
        ({"expire_time": "2001-01-01T00:00:00Z"}, "/expire_time"),
        ({"addresses": ["10.0.0.1/8"]}, "/addresses/0"),
        ({"addresses": ["::1", "example.com"]}, "/addresses/1"),
        ({"models": ["Late"]}, "/models/0"),
        ({"models": ["a*b"]}, "/models/0"),
        ({"roles": ["nothing"]}, "/roles/0"),
        ({"rate_limit": {"rate": 0, "burst": 1}}, "/rate_limit"),
    ],
)
async def test_a_wrong_change_is_named(alone: Gateway, wanted: Any, pointer: str) -> None:
    name = (await made(alone))["api_key"]["api_key"]
    answer = await change(alone, name, **wanted)

    assert (answer.status_code, answer.json()["violations"][0]["pointer"]) == (422, pointer)


async def test_nobody_changes_or_rotates_a_key_that_he_could_not_make(alone: Gateway) -> None:
    keeper = (await made(alone, permissions=["api_keys.*", "models.get"], expire_time=later(days=1)))["secret"]
    strong = (await made(alone, permissions=["models.*"], expire_time=later(hours=1)))["api_key"]["api_key"]
    lasting = (await made(alone, permissions=["models.get"]))["api_key"]["api_key"]
    weak = (await made(alone, permissions=["models.get"], expire_time=later(hours=1)))["api_key"]["api_key"]
    bound = (await made(alone, bindings_only=True, expire_time=later(hours=1)))["api_key"]["api_key"]
    given = {"binding": "strong-by-binding", "role": "admin", "principal": f"key:{bound}"}
    assert (await ask(alone, None, "POST", "/v1/bindings", given)).status_code == 200
    admin = alone.admin[4:12]

    for name in (strong, lasting, bound, admin):
        assert (await rotate(alone, name, keeper)).json()["code"] == "forbidden", name
        assert (await change(alone, name, keeper, display_name="mine")).json()["code"] == "forbidden", name
    assert (await change(alone, weak, keeper, permissions=["models.*"])).json()["code"] == "forbidden"
    assert (await change(alone, weak, keeper, update_mask="expireTime")).json()["code"] == "forbidden"
    assert (await change(alone, weak, keeper, display_name="ours")).status_code == 200
    assert (await rotate(alone, weak, keeper)).status_code == 200


async def test_another_tenants_key_is_not_there(alone: Gateway) -> None:
    name = (await made(alone))["api_key"]["api_key"]
    stranger = await alone.tenant("changes-stranger")

    for answer in (await rotate(alone, name, stranger), await change(alone, name, stranger, display_name="x")):
        assert (answer.status_code, answer.json()["detail"]) == (404, f"there is no key {name}")


async def test_the_last_key_that_administers_goes_on_doing_so(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway:
        admin = gateway.admin[4:12]
        refused = [
            await change(gateway, admin, permissions=["models.*"]),
            await change(gateway, admin, projects=["flights"]),
            await change(gateway, admin, models=["late"]),
            await change(gateway, admin, expire_time=later(days=1)),
            await change(gateway, admin, addresses=["10.0.0.0/8"]),
            await change(gateway, admin, certificates=["uri:spiffe://acme/chief"]),
        ]
        renamed = await change(gateway, admin, display_name="chief")
        rotated = await rotate(gateway, admin)
        old, new = gateway.admin, rotated.json()["secret"]
        seen = [await status(gateway, key, "/v1/whoami") for key in (old, new)]

    assert {answer.json()["code"] for answer in refused} == {"failed_precondition"}
    assert (renamed.status_code, seen) == (200, [401, 200])


async def test_a_revoked_key_stays_as_it_is(alone: Gateway) -> None:
    name = (await made(alone))["api_key"]["api_key"]
    await ask(alone, None, "DELETE", f"/v1/api-keys/{name}")

    for answer in (await rotate(alone, name), await change(alone, name, display_name="x")):
        assert (answer.json()["code"], answer.json()["detail"]) == ("failed_precondition", f"{name} is revoked")


async def test_a_rotated_secret_works_at_once_and_the_one_before_until_its_end(alone: Gateway) -> None:
    first = await made(alone)
    name, old = first["api_key"]["api_key"], first["secret"]
    until = datetime.now(UTC) + timedelta(seconds=2)
    answer = (await rotate(alone, name, old_expire_time=until.isoformat())).json()
    new = answer["secret"]
    both = [await status(alone, key, "/v1/whoami") for key in (old, new)]
    await asyncio.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
    after = [await status(alone, key, "/v1/whoami") for key in (old, new)]

    assert (new[:13], new == old) == (old[:13], False)
    assert (both, after) == ([200, 200], [401, 200])
    assert answer["api_key"]["rotate_time"]
    assert answer["api_key"]["old_expire_time"][:19] == until.isoformat()[:19]


async def test_without_a_time_the_one_before_ends_at_once_and_a_second_rotation_ends_the_first(alone: Gateway) -> None:
    first = await made(alone)
    name, secrets = first["api_key"]["api_key"], [first["secret"]]
    secrets.append((await rotate(alone, name, old_expire_time=later(hours=1))).json()["secret"])
    secrets.append((await rotate(alone, name, old_expire_time=later(hours=1))).json()["secret"])
    seen = [await status(alone, key, "/v1/whoami") for key in secrets]
    secrets.append((await rotate(alone, name)).json()["secret"])

    assert seen == [401, 200, 200]
    assert [await status(alone, key, "/v1/whoami") for key in secrets] == [401, 401, 401, 200]


@pytest.mark.parametrize("until", ["2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"])
async def test_the_one_before_ends_some_day_soon(alone: Gateway, until: str) -> None:
    name = (await made(alone))["api_key"]["api_key"]
    answer = await rotate(alone, name, old_expire_time=until)

    assert answer.json()["violations"][0]["pointer"] == "/old_expire_time"


async def test_a_repeated_rotation_shows_the_same_secret_and_rotates_once(alone: Gateway) -> None:
    name = (await made(alone))["api_key"]["api_key"]
    first, second = [await rotate(alone, name, once="rotate-1") for _ in range(2)]

    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert first.json()["api_key"]["etag"] == "2"


async def test_a_key_that_was_changed_elsewhere_meanwhile_keeps_its_new_secret(alone: Gateway) -> None:
    name = (await made(alone))["api_key"]["api_key"]
    new = (await rotate(alone, name)).json()["secret"]
    await change(alone, name, display_name="after")

    assert await status(alone, new, "/v1/whoami") == 200


async def test_a_key_is_made_to_sign_and_need_not_any_more(alone: Gateway) -> None:
    first = await made(alone)
    name, key = first["api_key"]["api_key"], first["secret"]
    begun = (await change(alone, name, signing={"policy": "SIGNATURE_POLICY_REQUIRED"})).json()
    plain = await ask(alone, key, "GET", "/v1/whoami")
    with Client(alone.doors["http"], key=key, signing=begun["signing_secret"]) as client:
        signed = await asyncio.to_thread(client.access.who_am_i)
    eased = (await change(alone, name, signing={"policy": "SIGNATURE_POLICY_OPTIONAL"})).json()
    with Client(alone.doors["http"], key=key, signing=begun["signing_secret"]) as client:
        again = await asyncio.to_thread(client.access.who_am_i)
    ended = (await change(alone, name, signing={"policy": "SIGNATURE_POLICY_NONE"})).json()

    assert begun["signing_secret"].startswith(f"aimsig_{name}_")
    assert (plain.status_code, plain.json()["code"]) == (401, "signature_invalid")
    assert signed.principal == again.principal == f"key:{name}"
    assert (eased["api_key"]["signing"]["policy"], eased.get("signing_secret", "")) == ("SIGNATURE_POLICY_OPTIONAL", "")
    assert not ended["api_key"].get("signing")
    assert await status(alone, key, "/v1/whoami") == 200


async def test_a_public_key_takes_the_place_of_a_secret(alone: Gateway) -> None:
    name = (await made(alone, signing={"policy": "SIGNATURE_POLICY_OPTIONAL"}))["api_key"]["api_key"]
    public = "A" * 43 + "="
    changed = (await change(alone, name, signing={"policy": "SIGNATURE_POLICY_REQUIRED", "public_key": public})).json()
    kept = (await change(alone, name, signing={"policy": "SIGNATURE_POLICY_OPTIONAL"})).json()

    assert [one["api_key"]["signing"]["algorithm"] for one in (changed, kept)] == ["ed25519"] * 2
    assert (changed.get("signing_secret", ""), kept["api_key"]["signing"]["public_key"]) == ("", public)


HERE = [["127.0.0.1"], ["127.0.0.0/8", "2001:db8::/32"]]


@pytest.mark.parametrize("addresses", HERE)
async def test_a_key_for_addresses_is_believed_there(alone: Gateway, addresses: list[str]) -> None:
    key = (await made(alone, addresses=addresses))["secret"]

    assert await status(alone, key, "/v1/whoami") == 200
    assert await over_grpc(alone, key) == "ok"


async def test_a_key_for_addresses_is_told_as_none_from_anywhere_else(alone: Gateway) -> None:
    first = await made(alone, addresses=["10.0.0.0/8"])
    key = first["secret"]
    answers = [await ask(alone, key, "GET", "/v1/whoami", x_project=project) for project in ("default", "other")]
    wrong = await ask(alone, key[:-4] + "AAAA", "GET", "/v1/whoami")

    assert {(one.status_code, one.json()["code"], one.json()["detail"]) for one in (*answers, wrong)} == {
        (401, "unauthenticated", "the key is not valid")
    }
    assert await over_grpc(alone, key) == "unauthenticated"
    await change(alone, first["api_key"]["api_key"], update_mask="addresses")
    assert await status(alone, key, "/v1/whoami") == 200


async def over_grpc(gateway: Gateway, key: str) -> str:
    async with grpc.aio.insecure_channel(gateway.doors["grpc"]) as channel:
        try:
            metadata = (("authorization", f"Bearer {key}"),)
            await AccessStub(channel).WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return failure_of(error, "gateway").code.text
    return "ok"


async def test_who_has_some_addresses_and_models_hands_out_no_more(alone: Gateway) -> None:
    maker = (await made(alone, permissions=["api_keys.*", "models.*"], addresses=["127.0.0.0/8"]))["secret"]

    async def tried(**wanted: Any) -> Any:
        return (await ask(alone, maker, "POST", "/v1/api-keys", {"permissions": ["models.get"], **wanted})).json()

    assert (await tried())["api_key"]["addresses"] == ["127.0.0.0/8"]
    assert (await tried(addresses=["127.0.0.1"]))["api_key"]["addresses"] == ["127.0.0.1"]
    assert (await tried(addresses=["127.0.0.1", "10.0.0.1"]))["code"] == "forbidden"
    own = await change(alone, maker[4:12], maker, update_mask="addresses")
    assert own.json()["code"] == "forbidden"


async def test_a_key_for_models_is_for_nothing_else(gateway: Gateway) -> None:
    key = (await made(gateway, models=["late", "fraud-*"]))["secret"]

    seen = {name: await status(gateway, key, f"/v1/models/{name}") for name in ("late", "fraud-eu", "later", "fraud")}
    assert seen == {"late": 200, "fraud-eu": 200, "later": 403, "fraud": 403}
    for path in ("/v1/models", "/v1/data-sets/late", "/v1/api-keys", "/v1/tenants"):
        assert await status(gateway, key, path) == 403, path
    assert await status(gateway, key, "/v1/whoami") == 200


async def test_a_binding_of_a_key_for_models_reaches_no_further(gateway: Gateway) -> None:
    key = (await made(gateway, bindings_only=True, models=["fraud-*"]))["secret"]
    wanted = {"binding": "narrow", "role": "viewer", "principal": f"key:{key[4:12]}"}
    await ask(gateway, None, "POST", "/v1/bindings", wanted | {"objects": ["models/fraud-eu*", "models/late"]})

    seen = {name: await status(gateway, key, f"/v1/models/{name}") for name in ("fraud-eu1", "fraud-us", "late")}
    assert seen == {"fraud-eu1": 200, "fraud-us": 403, "late": 403}


async def test_a_key_for_models_administers_nothing(gateway: Gateway) -> None:
    key = (await made(gateway, permissions=["*"], models=["late"]))["secret"]

    assert (await ask(gateway, key, "POST", "/v1/tenants", {"tenant": "by-models"})).status_code == 403
    assert (await ask(gateway, key, "POST", "/v1/api-keys", {})).status_code == 403


async def test_changes_and_rotations_are_told_and_no_secret_with_them(alone: Gateway) -> None:
    name = (await made(alone, addresses=["127.0.0.1"], models=["late"]))["api_key"]["api_key"]
    new = (await rotate(alone, name, old_expire_time=later(hours=1))).json()["secret"]
    changed: list[Any] = []
    count = 0
    while not changed:
        count += 1
        said = await alone.house.heard(events.ApiKeyChanged, count)
        changed = [found for found in said if found.api_key.api_key == name and found.generation == 2]

    assert (list(changed[0].api_key.addresses), list(changed[0].api_key.models)) == (["127.0.0.1"], ["late"])
    assert changed[0].api_key.old_expire_time.seconds
    assert new[13:] not in str(changed)
