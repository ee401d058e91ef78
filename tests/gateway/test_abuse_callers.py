"""Who calls as he may not (RELIABILITY, section 7): the rows that docs/abuse.md says are tested here."""

import json
from typing import Any

import pytest
from grpc import aio

from aimass.v1 import models_pb2
from aimass.v1.audit_events_pb2 import CallAudited
from aimass.v1.models_pb2_grpc import ModelsStub
from services.kit.status import failure_of
from tests.gateway.conftest import Gateway
from tests.support.house import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
WRONG = ("aim_aaaaaaaa_" + "a" * 43, "aim_{known}_" + "a" * 43, "x", "a.b.c")


async def known(gateway: Gateway) -> str:
    """The name of a key that is there."""
    return (await gateway.key())[4:12]


async def test_a1_unknown_users_and_wrong_secrets_have_one_answer_byte_for_byte(gateway: Gateway) -> None:
    there, seen = await known(gateway), set[tuple[int, bytes, tuple[str, ...]]]()
    async with gateway.client("", **{"x-request-id": "same"}) as client:
        for secret in WRONG:
            shown = {"authorization": f"Bearer {secret.format(known=there)}"}
            answer = await client.get("/v1/whoami", headers=shown)
            named = {name: value for name, value in answer.headers.items() if name != "date"}
            seen.add((answer.status_code, answer.content, tuple(f"{n}: {v}" for n, v in sorted(named.items()))))

    ((status, content, headers),) = seen
    assert (status, json.loads(content)["code"]) == (401, "unauthenticated")
    assert 'www-authenticate: Bearer realm="aimass"' in headers


async def test_a1_over_grpc_wrong_credentials_have_one_answer(gateway: Gateway) -> None:
    there, seen = await known(gateway), set[tuple[str, str]]()
    async with aio.insecure_channel(gateway.doors["grpc"]) as channel:
        stub: Any = ModelsStub(channel)
        for secret in WRONG:
            metadata = (("authorization", f"Bearer {secret.format(known=there)}"),)
            with pytest.raises(aio.AioRpcError) as caught:
                await stub.GetModel(models_pb2.GetModelRequest(model="late"), metadata=metadata)
            seen.add((failure_of(caught.value, "gateway").code.text, str(caught.value.details())))

    assert seen == {("unauthenticated", "the key is not valid")}


async def test_a2_what_is_anothers_looks_like_what_is_not_there(gateway: Gateway) -> None:
    mine, theirs = await gateway.tenant("alice"), await gateway.tenant("bob")
    async with gateway.client(theirs) as client:
        made = (await client.post("/v1/roles", json={"role": "theirs", "permissions": ["models.get"]})).json()
    assert made["role"] == "theirs"
    async with gateway.client(mine, **{"x-request-id": "same"}) as client:
        foreign, nobody = [await client.get(f"/v1/roles/{name}") for name in ("theirs", "nobody")]
        key, none = [await client.delete(f"/v1/api-keys/{name}") for name in (theirs[4:12], "zzzzzzzz")]

    for one, other in ((foreign, nobody), (key, none)):
        assert (one.status_code, one.json()["code"]) == (404, "not_found")
        assert {**one.json(), "detail": "", "instance": ""} == {**other.json(), "detail": "", "instance": ""}
    assert foreign.json()["detail"].replace("theirs", "nobody") == nobody.json()["detail"]


async def test_a3_a_forbidden_verb_on_what_is_ones_own_is_audited(gateway: Gateway) -> None:
    key = await gateway.key(permissions=["models.get"])
    before = len(gateway.services["aimass.v1.Models"].seen)
    async with gateway.client(key, **{"x-request-id": "audit-a3"}) as client:
        answer = await client.delete("/v1/models/late", headers={"if-match": '"7"'})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert len(gateway.services["aimass.v1.Models"].seen) == before
    (event,) = [one for one in await _audited(gateway) if one.principal == f"key:{key[4:12]}"]
    assert (event.method, event.outcome, event.resource) == ("aimass.v1.Models/DeleteModel", "forbidden", "models/late")


async def _audited(gateway: Gateway) -> list[Any]:
    """What the trail has, once the last call is in it."""
    count = 1
    while True:
        found: list[Any] = await gateway.house.heard(CallAudited, count)
        if any(one.method == "aimass.v1.Models/DeleteModel" for one in found):
            return found
        count += 1


async def test_a33_a_secret_in_a_path_or_a_name_of_a_request_is_written_down_redacted(gateway: Gateway) -> None:
    secret = "aim_canaryaa_" + "c" * 43
    async with gateway.client(**{"x-request-id": secret}) as client:
        for path in (f"/v1/models/{secret}", f"/v2/models/{secret}/infer", f"/v1/models/late?key={secret}"):
            await client.request("POST" if path.endswith("infer") else "GET", path)
    file = gateway.home / "logs" / "access.log"
    await until(lambda: file.read_text().count("aim_[redacted]") >= 5)

    assert secret not in file.read_text()


@pytest.mark.parametrize("path", ["/v3/models", "/v9", "/v0/models/late"])
async def test_a34_another_version_of_the_api_is_told_which_there_are(gateway: Gateway, path: str) -> None:
    async with gateway.client() as client:
        answer = await client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_version")
    assert "v1 and v2" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/nowhere", "/vx/models", "/nowhere", "/v11x/models"])
async def test_a34_what_names_no_version_is_just_not_there(gateway: Gateway, path: str) -> None:
    async with gateway.client() as client:
        answer = await client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
