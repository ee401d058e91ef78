"""Receipts of answers: verified by who has them and the public key, and by nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from aimass import AsyncClient, Client, Failure, Receipt
from aimass.receipts import asking
from services.gateway.receipts import Receipts
from services.gateway.signatures import Head
from services.kit.secrets import Vault
from tests.gateway.serving import Serving, serving
from tests.support.models import logistic

pytestmark = pytest.mark.asyncio(loop_scope="module")
Kept = list[tuple[Receipt, bytes, bytes]]
ROWS = np.zeros((2, 4), "<f4")
OTHER = Receipts(Vault(Path("/nowhere"), "A" * 43 + "="), lambda: 0.0).public_key


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("home")) as found:
        await found.serve("late", logistic(4, 1))
        found.house.age()
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept(app: Serving) -> Kept:
    """Receipts of some calls: without a body, with one, of a prediction, of a failure."""
    found: Kept = []
    async with AsyncClient(app.doors["http"], app.key, receipts=lambda *one: found.append(one)) as client:
        await client.access.who_am_i()
        await client.access.create_api_key(display_name="one")
        await client.predict("late", {"x": ROWS}, request_id="mine")
        with pytest.raises(Failure, match="not_found"):
            await client.models.get_model(model="nobody")
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(app: Serving) -> bytes:
    async with AsyncClient(app.doors["http"], app.key) as client:
        return bytes((await client.access.get_receipt_key()).public_key)


async def test_every_answer_has_a_receipt_that_holds(kept: Kept, key: bytes) -> None:
    for receipt, request, answer in kept:
        receipt.verify(key, request, answer)

    answered = [(receipt.status, receipt.values["@method;req"], receipt.values["@path;req"]) for receipt, _, _ in kept]
    assert (200, "POST", "/v1/api-keys") in answered
    assert (200, "POST", "/v2/models/late/infer") in answered
    assert (404, "GET", "/v1/models/nobody") in answered


async def test_the_receipt_of_a_prediction_says_which_version_answered_which_request(kept: Kept) -> None:
    (receipt,) = [one for one, _, _ in kept if one.values["@path;req"].endswith("/infer")]

    assert receipt.request_id == "mine"
    assert receipt.model_version.startswith("1;digest=sha256:")
    assert receipt.time.year > 2000


async def test_a_receipt_that_was_kept_as_text_is_the_same(kept: Kept, key: bytes) -> None:
    for receipt, request, answer in kept:
        again = Receipt.from_json(receipt.to_json())
        again.verify(key, request, answer)
        assert again == receipt


async def test_nothing_of_a_receipt_can_be_changed(kept: Kept, key: bytes) -> None:
    for receipt, _, _ in kept:
        changed = [
            replace(receipt, values={**receipt.values, name: f"{value}0"}) for name, value in receipt.values.items()
        ]
        less = [
            replace(receipt, values={k: v for k, v in receipt.values.items() if k != name}) for name in receipt.values
        ]
        later = replace(receipt, parameters=receipt.parameters.replace("created=1", "created=2"))
        short = replace(receipt, parameters=receipt.parameters.replace('"x-request-id" ', ""))
        for forged in [
            *changed,
            *less,
            later,
            short,
            replace(receipt, signature="AAAA"),
            replace(receipt, signature="?"),
        ]:
            with pytest.raises(Failure, match="receipt_invalid"):
                forged.verify(key)


async def test_a_receipt_holds_for_its_own_bodies_and_key_only(kept: Kept, key: bytes) -> None:
    receipt, request, answer = next(one for one in kept if one[1])
    for wrong in (
        (key, request + b" ", answer),
        (key, request, answer + b" "),
        (key, b"", answer),
        (OTHER, None, None),
    ):
        with pytest.raises(Failure, match="receipt_invalid"):
            receipt.verify(*wrong)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"values": [], "parameters": "", "signature": ""}'])
async def test_what_is_no_receipt_is_said_to_be_none(text: str) -> None:
    with pytest.raises(Failure, match="receipt_invalid"):
        Receipt.from_json(text)


async def test_a_receipt_without_a_key_or_a_time_is_none(key: bytes) -> None:
    with pytest.raises(Failure, match="receipt_invalid"):
        _ = Receipt({}, "()", "").key_id
    with pytest.raises(Failure, match="receipt_invalid"):
        Receipt({}, "()", "").verify(key)


async def test_signed_requests_have_receipts_too(app: Serving, key: bytes) -> None:
    found: Kept = []
    async with AsyncClient(app.doors["http"], app.key) as client:
        made = await client.access.create_api_key(signing={"policy": "required"})

    def calls() -> None:
        url, secret = app.doors["http"], made.signing_secret
        with Client(url, signing=secret, receipts=lambda *one: found.append(one)) as client:
            client.models.create_model(model="signed")

    await asyncio.to_thread(calls)
    ((receipt, request, answer),) = found
    receipt.verify(key, request, answer)


async def test_large_bodies_are_receipted_as_well(app: Serving, key: bytes) -> None:
    found: Kept = []
    async with AsyncClient(app.doors["http"], app.key, receipts=lambda *one: found.append(one)) as client:
        await client.predict("late", {"x": np.zeros((2**18 + 1, 4), "<f4")})
    ((receipt, request, answer),) = [one for one in found if one[0].values["@path;req"].endswith("/infer")]

    assert min(len(request), len(answer)) > 2**20
    receipt.verify(key, request, answer)


@pytest.mark.parametrize(("size", "at_once"), [(10, True), (2 * 2**20, False)])
async def test_digests_of_large_bodies_leave_the_loop_to_others(size: int, at_once: bool) -> None:
    receipts, content = Receipts(Vault(Path("/nowhere"), "A" * 43 + "="), lambda: 0.0), bytes(size)
    head = Head("POST", "here", "/v1/models", "", asking(content))
    asked = asyncio.ensure_future(receipts.asked(head, content))
    await asyncio.sleep(0)

    assert asked.done() is at_once
    receipt = await asked
    for answer in (receipt.headers(200, (), content), receipt.trailers(0, content)):
        made = asyncio.ensure_future(answer)
        await asyncio.sleep(0)
        assert made.done() is at_once
        assert dict(await made)


async def test_who_does_not_ask_gets_none_and_neither_do_strangers(app: Serving) -> None:
    async with app.client() as client:
        plain = await client.get("/v1/whoami")
        headless = await client.head("/v1/whoami", headers=asking(b""))
        stranger = await client.get("/v1/whoami", headers=asking(b"") | {"authorization": ""})

    assert [answer.status_code for answer in (plain, headless, stranger)] == [200, 200, 401]
    assert not any("signature" in answer.headers for answer in (plain, headless, stranger))


async def test_the_openapi_document_has_a_receipt(app: Serving) -> None:
    async with app.client() as client:
        answer = await client.get("/openapi.json", headers=asking(b""))

    assert "signature" in answer.headers


@pytest.mark.parametrize(("digest", "code"), [(None, "invalid_value"), ("sha-256=:AAAA:", "digest_mismatch")])
async def test_a_body_is_receipted_only_with_its_digest(app: Serving, digest: str | None, code: str) -> None:
    headers = {"x-receipt": "1", "content-type": "application/json"} | ({"content-digest": digest} if digest else {})
    async with app.client() as client:
        answer = await client.post("/v1/models", content=json.dumps({"model": "undigested"}).encode(), headers=headers)
        made = await client.get("/v1/models/undigested")

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert made.status_code == 404


async def test_the_key_is_that_of_the_installation(tmp_path: Path) -> None:
    def public(folder: Path, given: str = "") -> bytes:
        return Receipts(Vault(folder, given), lambda: 0.0).public_key

    assert public(tmp_path) == public(tmp_path)
    assert public(tmp_path) != public(tmp_path / "other") != OTHER
    assert public(tmp_path / "one", "A" * 43 + "=") == public(tmp_path / "two", "A" * 43 + "=") == OTHER
