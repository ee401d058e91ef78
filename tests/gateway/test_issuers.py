"""Callers with tokens of issuers, as they see it at the doors."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio
from grpc import aio

from aimass import AsyncClient
from aimass.v1 import access_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from services.gateway.issuers import keyset
from services.kit.telemetry import REGISTRY
from tests.gateway.conftest import Gateway, gateway_at
from tests.gateway.forging import forged
from tests.gateway.issuing import Issuer, ec_key, rsa_key, write
from tests.support.house import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
REFUSED = ("token_invalid", "the token is not valid")


@pytest.fixture(scope="module")
def corp() -> Iterator[Issuer]:
    issuer = Issuer()
    issuer.keys["one"] = rsa_key()
    yield issuer
    issuer.close()


@pytest.fixture(scope="module")
def curves() -> Iterator[Issuer]:
    issuer = Issuer("ES256")
    issuer.keys["one"] = ec_key()
    yield issuer
    issuer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def believing(
    tmp_path_factory: pytest.TempPathFactory, corp: Issuer, curves: Issuer
) -> AsyncIterator[tuple[Gateway, Path]]:
    """A gateway that takes the tokens of two issuers, and its file of them."""
    home = tmp_path_factory.mktemp("home")
    other = corp.entry("corp-acme", "acme", "aimass-acme")
    file = write(home / "issuers.toml", corp.entry(), other, curves.entry("curves"))
    async with gateway_at(home, **settings(file, corp, curves)) as running:
        await running.tenant("acme")
        for issuer in (corp, curves):
            await until(partial(good, running, issuer))
        yield running, file


def settings(file: Path, *issuers: Issuer) -> dict[str, str]:
    allowed = ",".join(f"127.0.0.1:{issuer.port}" for issuer in issuers)
    fast = {"AIMASS_GATEWAY_RATE": "100000", "AIMASS_GATEWAY_BURST": "100000"}
    return {"AIMASS_GATEWAY_ISSUERS_FILE": str(file), "AIMASS_EGRESS_ALLOW": allowed, **fast}


async def get(gateway: Gateway, token: str, path: str = "/v1/whoami", **headers: str) -> httpx2.Response:
    async with gateway.client(token, **{"x-request-id": "same"} | headers) as client:
        return await client.get(path)


async def taken(gateway: Gateway, token: str) -> bool:
    return (await get(gateway, token)).status_code == 200


async def over_grpc(gateway: Gateway, token: str) -> Any:
    async with aio.insecure_channel(gateway.doors["grpc"]) as channel:
        metadata = (("authorization", f"Bearer {token}"),)
        return await AccessStub(channel).WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata)


async def good(gateway: Gateway, issuer: Issuer) -> bool:
    return await taken(gateway, issuer.token())


Believing = tuple[Gateway, Path]


async def test_a_token_speaks_for_its_subject_with_the_roles_of_its_groups(believing: Believing, corp: Issuer) -> None:
    gateway, _ = believing
    document = (await get(gateway, corp.token(groups=["readers", "unknown"]), **{"x-project": "lab"})).json()

    assert (document["principal"], document["tenant"], document["project"]) == ("user:corp:ann", "default", "lab")
    assert "models.get" in document["permissions"]
    assert "models.create" not in document["permissions"]


async def test_over_grpc_a_token_speaks_for_its_subject(believing: Believing, curves: Issuer) -> None:
    principal = await over_grpc(believing[0], curves.token(sub="bob"))

    assert (principal.principal, principal.tenant) == ("user:curves:bob", "default")
    assert "models.create" in principal.permissions


async def test_the_client_takes_a_token_in_place_of_a_key(believing: Believing, corp: Issuer) -> None:
    gateway, _ = believing
    async with AsyncClient(gateway.doors["http"], key=corp.token()) as client:
        assert (await client.access.who_am_i()).principal == "user:corp:ann"


async def test_the_audience_decides_on_the_tenant(believing: Believing, corp: Issuer) -> None:
    gateway, _ = believing
    document = (await get(gateway, corp.token(aud="aimass-acme"))).json()
    both = await get(gateway, corp.token(aud=["aimass-acme", "aimass"]))

    assert (document["tenant"], document["principal"]) == ("acme", "user:corp-acme:ann")
    assert both.status_code == 401


@pytest.mark.parametrize("groups", [[], None, ["unknown"], 7, [["builders"]], {"builders": 1}])
async def test_who_is_in_no_group_that_counts_may_nothing(believing: Believing, corp: Issuer, groups: Any) -> None:
    gateway, _ = believing
    answer = await get(gateway, corp.token(groups=groups), "/v1/api-keys")

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def refusals() -> float:
    """How many tokens were not taken, as the figures say."""
    return REGISTRY.get_sample_value("aimass_tokens_refused_total") or 0.0


async def test_every_forged_token_has_one_answer_and_what_is_none_that_of_a_wrong_key(
    believing: Believing, corp: Issuer
) -> None:
    gateway, _ = believing
    wrong, expired = await get(gateway, "aim_aaaaaaaa_" + "x" * 43), await get(gateway, corp.token(exp=1))
    tokens, counted = forged(corp), refusals()
    answers = {what: await get(gateway, token) for what, token in tokens.items()}

    assert (expired.status_code, expired.json()["code"], expired.json()["detail"]) == (401, *REFUSED)
    assert len([token for token in tokens.values() if "." in token]) >= 40
    seen = {what: (answer.status_code, answer.content) for what, answer in answers.items()}
    one = {what: (expired if "." in token else wrong).content for what, token in tokens.items()}
    assert {what: found for what, found in seen.items() if found != (401, one[what])} == {}
    assert all(answer.headers["www-authenticate"] == 'Bearer realm="aimass"' for answer in answers.values())
    assert refusals() - counted >= 40
    assert await taken(gateway, corp.token())


async def test_over_grpc_every_forged_token_has_one_answer(believing: Believing, corp: Issuer) -> None:
    gateway, _ = believing
    seen = set()
    for token in forged(corp).values():
        if token.isascii() and len(token) < 8000 and "." in token:
            with pytest.raises(aio.AioRpcError) as caught:
                await over_grpc(gateway, token)
            seen.add((caught.value.code(), caught.value.details()))

    assert seen == {(grpc.StatusCode.UNAUTHENTICATED, REFUSED[1])}


async def test_one_issuer_does_not_speak_for_the_other(believing: Believing, corp: Issuer, curves: Issuer) -> None:
    gateway, _ = believing

    assert (await get(gateway, corp.token(iss=curves.url))).status_code == 401
    assert (await get(gateway, curves.token(iss=corp.url))).status_code == 401


async def test_a_token_that_was_taken_ends(believing: Believing, corp: Issuer) -> None:
    gateway, _ = believing
    now = int(time.time())
    token = corp.token(iat=now - 600, exp=now - 28)  # with a leeway of 30 s
    assert await taken(gateway, token)

    async def ended() -> bool:
        return not await taken(gateway, token)

    await until(ended, 3)


async def test_a_key_that_comes_is_learned_and_one_that_goes_is_forgotten(
    believing: Believing, corp: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyset, "ASKED", 0.5)
    gateway, _ = believing
    old = corp.token()
    assert await taken(gateway, old)
    kept = corp.keys.copy()
    corp.keys.clear()
    corp.keys["two"] = rsa_key()
    await until(lambda: taken(gateway, corp.token("two")), 15)
    refused = await get(gateway, old)
    corp.keys.clear()
    corp.keys.update(kept)
    await until(lambda: taken(gateway, old), 15)

    assert refused.status_code == 401


async def test_strangers_do_not_make_us_ask_the_issuer_all_the_time(believing: Believing, corp: Issuer) -> None:
    gateway, _ = believing
    stranger, before = rsa_key(), corp.asked
    await asyncio.gather(*(get(gateway, corp.token(f"kid-{number}", stranger)) for number in range(30)))

    assert corp.asked - before <= 2  # one for each of the two that have this address


async def test_roles_that_change_count_at_once(believing: Believing, corp: Issuer) -> None:
    gateway, _ = believing
    token = corp.token(groups=["scorers"])
    async with gateway.client() as admin:
        await admin.post("/v1/roles", json={"role": "scorer", "permissions": ["models.get"]})
        seen = [(await get(gateway, token)).json()["permissions"]]
        await admin.patch("/v1/roles/scorer", json={"permissions": ["jobs.get"]}, headers={"if-match": "*"})
        seen.append((await get(gateway, token)).json()["permissions"])
        await admin.delete("/v1/roles/scorer", headers={"if-match": "*"})
        seen.append((await get(gateway, token)).json()["permissions"])

    assert seen == [["models.get"], ["jobs.get"], []]


async def test_an_issuer_that_is_taken_out_is_not_believed_any_more(believing: Believing, curves: Issuer) -> None:
    gateway, file = believing
    token, before = curves.token(), file.read_text()
    assert await taken(gateway, token)
    write(file, before.replace(curves.entry("curves"), ""))

    async def refused() -> bool:
        return not await taken(gateway, token)

    await until(refused)
    write(file, before)
    await until(lambda: taken(gateway, token))


async def test_a_file_that_is_no_table_changes_nothing(believing: Believing, corp: Issuer) -> None:
    gateway, file = believing
    before = file.read_text()
    write(file, "[issuers")
    await asyncio.sleep(1.2)
    found = await taken(gateway, corp.token())
    write(file, before)

    assert found


async def test_a_tenant_that_is_closed_closes_for_tokens_as_well(believing: Believing, corp: Issuer) -> None:
    gateway, _ = believing
    token = corp.token(aud="aimass-acme")
    seen = [await taken(gateway, token)]
    async with gateway.client() as admin:
        await admin.delete("/v1/tenants/acme", headers={"if-match": "*"})
        seen.append(await taken(gateway, token))
        await admin.post("/v1/tenants/acme:undelete", json={})
        seen.append(await taken(gateway, token))

    assert seen == [True, False, True]


async def test_a_project_has_to_be_a_name(believing: Believing, corp: Issuer) -> None:
    answer = await get(believing[0], corp.token(), **{"x-project": "No Name"})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_name")


async def test_a_role_administers_no_installation(believing: Believing, corp: Issuer) -> None:
    gateway, _ = believing
    async with gateway.client(corp.token(groups=["chiefs"])) as chief:
        tenant = await chief.post("/v1/tenants", json={"tenant": "mine"})
        strongest = await chief.post("/v1/api-keys", json={"permissions": ["*"]})
        key = await chief.post("/v1/api-keys", json={"roles": ["viewer"]})

    assert [tenant.status_code, strongest.status_code, key.status_code] == [403, 403, 200]


async def test_nobody_hands_out_what_he_lacks(believing: Believing, corp: Issuer) -> None:
    gateway, _ = believing
    async with gateway.client(corp.token()) as builder:
        answer = await builder.post("/v1/api-keys", json={"roles": ["viewer"]})

    assert answer.status_code == 403


async def test_a_limit_counts_each_subject(tmp_path: Path, corp: Issuer) -> None:
    file = write(tmp_path / "issuers.toml", corp.entry())
    few = settings(file, corp) | {"AIMASS_GATEWAY_RATE": "0.01", "AIMASS_GATEWAY_BURST": "3"}
    async with gateway_at(tmp_path / "home", **few) as gateway:
        await until(lambda: taken(gateway, corp.token(sub="first")))
        ann = [(await get(gateway, corp.token(jti=str(number)))).status_code for number in range(4)]
        bob = await get(gateway, corp.token(sub="bob"))

    assert (ann, bob.status_code) == ([200, 200, 200, 429], 200)


async def test_an_issuer_that_is_away_changes_nothing_for_those_who_are_known(tmp_path: Path) -> None:
    issuer = Issuer()
    issuer.keys["one"] = rsa_key()
    issuer.close()
    file = write(tmp_path / "issuers.toml", issuer.entry())
    async with gateway_at(tmp_path / "home", **settings(file, issuer)) as gateway:
        first = await get(gateway, issuer.token())
        issuer.open()
        await until(lambda: taken(gateway, issuer.token()), 20)
        issuer.close()
        known, unknown = await get(gateway, issuer.token(sub="eve")), await get(gateway, issuer.token("two", rsa_key()))

    assert (first.status_code, first.json()["code"], "retry-after" in first.headers) == (503, "unavailable", True)
    assert (known.status_code, unknown.status_code) == (200, 401)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda issuer: {"/realm/.well-known/openid-configuration": b'{"issuer": "https://thief.example"}'},
        lambda issuer: {"/realm/.well-known/openid-configuration": b"[" * 5000},
        lambda issuer: {"/realm/keys": b'{"keys": []}'},
        lambda issuer: {"/realm/keys": b"x" * (keyset._SIZE + 1)},
    ],
)
async def test_documents_that_are_wrong_teach_nothing(tmp_path: Path, spoil: Callable[[Issuer], Any]) -> None:
    issuer = Issuer()
    issuer.keys["one"] = rsa_key()
    issuer.said = spoil(issuer)
    file = write(tmp_path / "issuers.toml", issuer.entry())
    async with gateway_at(tmp_path / "home", **settings(file, issuer)) as gateway:
        spoiled = await get(gateway, issuer.token())
        issuer.said = {}
        await until(lambda: taken(gateway, issuer.token()), 15)
    issuer.close()

    assert spoiled.status_code == 503


async def test_without_issuers_a_token_is_a_wrong_key(tmp_path: Path, corp: Issuer) -> None:
    async with gateway_at(tmp_path / "home") as gateway:
        answer = await get(gateway, corp.token())

    assert (answer.status_code, answer.json()["detail"]) == (401, "the key is not valid")
