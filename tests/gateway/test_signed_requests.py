"""Keys that sign, as callers see them at the doors: what they are shown, what is taken, what is refused and how."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx2
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from grpc import aio

from aimass import AsyncClient, Client, Failure, Signer
from aimass.receipts import asking
from aimass.v1 import access_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from tests.gateway.conftest import Gateway, gateway_at

pytestmark = pytest.mark.asyncio(loop_scope="module")
REQUIRED, OPTIONAL = "SIGNATURE_POLICY_REQUIRED", "SIGNATURE_POLICY_OPTIONAL"
TEXT = "the request is not signed as it has to be"
# Made once: to read the authorities of a system takes a client longer than a request does.
TRUST = ssl.create_default_context()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signing(gateway: Gateway) -> AsyncIterator[Gateway]:
    """The gateway, some time after its start: it does not yet know then what came before."""
    gateway.house.age()
    yield gateway


async def made(gateway: Gateway, policy: str = REQUIRED, **wanted: Any) -> dict[str, Any]:
    """A new key that signs, as its maker sees it."""
    signing = {"policy": policy} | {name: wanted.pop(name) for name in ("public_key",) if name in wanted}
    async with gateway.client() as client:
        answer = await client.post("/v1/api-keys", json={"signing": signing, **wanted})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


class Captured:
    """A request that was written down on its way, to be sent as often as one likes."""

    def __init__(
        self, gateway: Gateway, secret: str, verb: str, path: str, content: bytes = b"", **fields: str
    ) -> None:
        self.url, self.verb, self.path, self.content = gateway.doors["http"], verb, path, content
        self.headers = {name.replace("_", "-"): value for name, value in fields.items()}
        place, _, query = path.partition("?")
        authority = urlsplit(self.url).netloc
        made = Signer.of(secret).headers(verb, authority, place, query, self.headers, content)
        self.headers |= made

    async def send(self, **changes: Any) -> httpx2.Response:
        """Sends it, or something a little different."""
        sent = {"method": self.verb, "url": self.path, "content": self.content, "headers": self.headers} | changes
        async with httpx2.AsyncClient(base_url=self.url, verify=TRUST) as client:
            return await client.request(**sent)


def refusal(answer: httpx2.Response) -> tuple[int, str, str]:
    problem = answer.json()
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    return answer.status_code, problem["code"], problem["detail"]


REFUSED = (401, "signature_invalid", TEXT)


async def test_the_secret_to_sign_with_is_shown_once_and_lies_nowhere(signing: Gateway) -> None:
    key = await made(signing, display_name="till")
    secret, name = key["signing_secret"], key["api_key"]["api_key"]
    async with signing.client() as client:
        read = (await client.get(f"/v1/api-keys/{name}")).json()

    assert secret.startswith(f"aimsig_{name}_")
    assert read == key["api_key"]
    assert read["signing"] == {"policy": REQUIRED, "public_key": "", "algorithm": "hmac-sha256"}
    files = [path for path in signing.home.rglob("*") if path.is_file()]
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


async def test_a_repeat_of_its_making_shows_the_same_secret_again(signing: Gateway) -> None:
    wanted = {"signing": {"policy": OPTIONAL}}
    async with signing.client() as client:
        first, second = [
            (await client.post("/v1/api-keys", json=wanted, headers={"idempotency-key": "signs"})).json()
            for _ in range(2)
        ]

    assert first == second
    assert first["signing_secret"]


@pytest.mark.parametrize(
    "signing_wanted", [{}, {"policy": "SIGNATURE_POLICY_UNSPECIFIED"}, {"policy": REQUIRED, "public_key": "AAAA"}]
)
async def test_a_key_says_whether_it_must_sign_and_with_what(signing: Gateway, signing_wanted: dict[str, str]) -> None:
    async with signing.client() as client:
        answer = await client.post("/v1/api-keys", json={"signing": signing_wanted})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value")


async def test_the_client_signs_with_one_option(signing: Gateway) -> None:
    secret = (await made(signing))["signing_secret"]

    def calls() -> list[str]:
        with Client(signing.doors["http"], signing=secret, project="lab") as client:
            sent = client.sources.create_source(source="cities", files={"upload_digest": "sha256:0", "format": "csv"})
            streamed = [record.text for record in client.logs.tail_logs()]
            assert client.sources.write_source_upload(upload="u", offset=0, body=b"x" * 100).committed_size == 100
            return [client.access.who_am_i().project, sent.source, str(len(streamed))]

    assert (await asyncio.to_thread(calls))[:2] == ["lab", "cities"]
    async with AsyncClient(signing.doors["http"], signing=secret) as client:
        assert (await client.access.who_am_i()).project == "default"
        assert (await client.models.get_model(model="late")).model


async def test_a_caller_may_keep_the_secret_to_himself(signing: Gateway) -> None:
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key().public_bytes_raw()
    key = await made(signing, public_key=base64.b64encode(public).decode())

    assert (key["signing_secret"], key["api_key"]["signing"]["algorithm"]) == ("", "ed25519")
    signer = Signer.ed25519(key["api_key"]["api_key"], pem)
    async with AsyncClient(signing.doors["http"], signing=signer) as client:
        assert (await client.access.who_am_i()).principal == f"key:{signer.key_id}"


async def test_a_key_that_must_sign_is_not_believed_without(signing: Gateway) -> None:
    key = await made(signing)
    async with signing.client(key["secret"]) as client:
        answers = [await client.get(path) for path in ("/v1/whoami", "/v2", "/docs")]
        ready = await client.get("/health/ready")

    assert [refusal(answer) for answer in answers] == [REFUSED] * 3
    async with signing.client("") as stranger:
        assert ready.json() == (await stranger.get("/health/ready")).json()


async def test_over_grpc_a_key_that_must_sign_is_not_believed_without_either(signing: Gateway) -> None:
    key = await made(signing)
    async with aio.insecure_channel(signing.doors["grpc"]) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await AccessStub(channel).WhoAmI(
                access_pb2.WhoAmIRequest(), metadata=(("authorization", f"Bearer {key['secret']}"),)
            )

    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, TEXT)


async def test_a_key_that_may_sign_is_believed_without_but_not_with_a_wrong_signature(signing: Gateway) -> None:
    key = await made(signing, OPTIONAL)
    bearer = {"authorization": f"Bearer {key['secret']}"}
    good = Captured(signing, key["signing_secret"], "GET", "/v1/whoami", b"", **bearer)
    wrong = Captured(signing, key["signing_secret"], "GET", "/v1/models", b"", **bearer)

    async with signing.client(key["secret"]) as client:
        assert (await client.get("/v1/whoami")).status_code == 200
    assert (await good.send()).status_code == 200
    assert refusal(await wrong.send(url="/v1/whoami")) == REFUSED


async def test_the_key_that_is_shown_has_to_be_the_one_that_signed(signing: Gateway) -> None:
    one, foreign = await made(signing, OPTIONAL), await signing.tenant("foreign")
    mixed = Captured(signing, one["signing_secret"], "GET", "/v1/whoami", authorization=f"Bearer {foreign}")

    assert refusal(await mixed.send()) == REFUSED


async def test_a_captured_request_has_one_effect(signing: Gateway) -> None:
    secret = (await made(signing))["signing_secret"]
    content = json.dumps(
        {"source": "captured", "files": {"upload_digest": "sha256:0", "format": "FILE_FORMAT_CSV"}}
    ).encode()
    captured = Captured(signing, secret, "POST", "/v1/sources?", content, content_type="application/json")
    before = len(signing.services["aimass.v1.Sources"].seen)

    first = await captured.send()
    others = [
        await captured.send(),
        await captured.send(url="/v1/rules"),
        await captured.send(method="PUT"),
        await captured.send(content=content.replace(b"captured", b"replaced")),
        await captured.send(content=b""),
        await captured.send(url="/v1/sources?x=1"),
        await captured.send(headers=captured.headers | {"x-project": "lab"}),
        await captured.send(headers=captured.headers | {"host": "localhost"}),
        await captured.send(headers={**captured.headers, "idempotency-key": "new"}),
        await captured.send(headers={k: v for k, v in captured.headers.items() if k != "content-digest"}),
        await captured.send(headers={k: v for k, v in captured.headers.items() if k != "signature"}),
        await captured.send(headers=captured.headers | {"signature": "aimass=:AAAA:"}),
    ]

    assert first.status_code == 200, first.text
    assert refusal(others[0])[:2] == (409, "replayed")
    assert {refusal(answer) for answer in others[1:]} == {REFUSED}
    assert len(signing.services["aimass.v1.Sources"].seen) == before + 1


async def test_of_many_at_a_time_one_is_taken(signing: Gateway) -> None:
    secret = (await made(signing))["signing_secret"]
    captured = Captured(signing, secret, "GET", "/v1/whoami")

    answers = await asyncio.gather(*(captured.send() for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19


async def test_a_path_is_signed_as_it_is_written(signing: Gateway) -> None:
    secret = (await made(signing))["signing_secret"]

    taken = await Captured(signing, secret, "GET", "/v1/%6dodels/late").send()
    named = await Captured(signing, secret, "GET", "/v1/models/a%2Fb?x=%20").send()

    assert taken.json()["model"] == "late"
    assert named.json()["code"] == "invalid_value"  # read, and no such field


async def test_a_header_that_is_there_twice_is_no_signature(signing: Gateway) -> None:
    secret = (await made(signing))["signing_secret"]
    captured = Captured(signing, secret, "GET", "/v1/whoami")

    answer = await captured.send(headers=[*captured.headers.items(), ("signature", captured.headers["signature"])])

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_framing")


async def test_after_a_restart_nothing_from_before_is_taken(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with gateway_at(home) as running:
        running.house.age()
        secret = (await made(running))["signing_secret"]
        captured = [Captured(running, secret, "GET", "/v1/whoami") for _ in range(3)]
        assert [(await one.send()).status_code for one in captured] == [200] * 3
        port = urlsplit(running.doors["http"]).port
    async with gateway_at(home, AIMASS_GATEWAY_HTTP_PORT=str(port)) as running:
        answers = [await one.send() for one in captured]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "unavailable")] * 3
        assert all(float(answer.headers["retry-after"]) >= 1 for answer in answers)
        async with AsyncClient(running.doors["http"], signing=secret) as client:
            assert (await client.access.who_am_i()).tenant == "default"  # it comes again by itself
        stale = (401, "signature_stale", "the signature is from before nonces were lost: sign the request again")
        assert [refusal(await one.send()) for one in captured] == [stale] * 3


async def test_a_secret_that_is_none_is_said_before_anything_is_sent() -> None:
    with pytest.raises(Failure, match="aimsig_"):
        Client("http://127.0.0.1:1", signing="aim_abcdefgh_" + "x" * 43)


async def test_an_answer_that_streams_has_no_receipt_and_one_that_is_whole_has(signing: Gateway) -> None:
    async with signing.client(accept="application/x-ndjson", **asking(b"")) as client:
        streamed = await client.get("/v1/logs:tail")
    async with signing.client(**asking(b"")) as client:
        whole = await client.get("/v1/models/late")

    assert (streamed.status_code, "signature" in streamed.headers) == (200, False)
    assert (whole.status_code, "signature" in whole.headers) == (200, True)
