"""Filters of personal data over the door: made, changed, followed, and what requests become."""

import asyncio
import json
from typing import Any

import pytest

from aimass.v1 import gateway_events_pb2 as events
from tests.gateway.conftest import Gateway
from tests.gateway.test_access import heard
from tests.gateway.test_roles import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")
EMAIL = {"detector": "email", "action": "PRIVACY_ACTION_MASK"}


def own(pattern: str) -> dict[str, str]:
    return {"detector": "staff", "pattern": pattern, "action": "PRIVACY_ACTION_MASK"}


def filter_of(name: str, *rules: dict[str, str], **where: Any) -> dict[str, Any]:
    return {"privacy_filter": name, "rules": rules or [EMAIL], **(where or {"methods": ["Models/*"]})}


async def made(gateway: Gateway, key: str, name: str, *rules: dict[str, str], **where: Any) -> dict[str, Any]:
    answer = await ask(gateway, key, "POST", "/v1/privacy-filters", filter_of(name, *rules, **where))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def described(gateway: Gateway, key: str, text: str, model: str = "fraud") -> Any:
    """What the registry heard of a model's description, which it repeats; or the refusal."""
    answer = await ask(gateway, key, "POST", "/v1/models", {"model": model, "description": text})
    if answer.status_code != 200:
        return answer
    return answer.json()["description"]


async def test_a_filter_is_made_read_changed_deleted_and_undeleted(gateway: Gateway) -> None:
    key = await gateway.tenant("privacy-life")
    first = await made(gateway, key, "mine")
    read = await ask(gateway, key, "GET", "/v1/privacy-filters/mine")
    body = {"answers": True, "models": ["fraud-*"], "update_mask": "answers,models"}
    changed = await ask(gateway, key, "PATCH", "/v1/privacy-filters/mine", body, if_match=read.headers["etag"])
    stale = await ask(gateway, key, "PATCH", "/v1/privacy-filters/mine", body, if_match='"1"')
    gone = await ask(gateway, key, "DELETE", "/v1/privacy-filters/mine", if_match='"2"')
    missing = await ask(gateway, key, "GET", "/v1/privacy-filters/mine")
    again = await ask(gateway, key, "POST", "/v1/privacy-filters", filter_of("mine"))
    back = await ask(gateway, key, "POST", "/v1/privacy-filters/mine:undelete", {})
    listed = await ask(gateway, key, "GET", "/v1/privacy-filters")

    assert read.json() == first
    assert (changed.json()["etag"], changed.json()["models"], changed.json()["methods"]) == (
        "2",
        ["fraud-*"],
        ["Models/*"],
    )
    assert (stale.status_code, gone.json()["etag"], missing.status_code) == (412, "3", 404)
    assert (again.json()["code"], back.json()["etag"]) == ("already_exists", "4")
    assert [found["privacy_filter"] for found in listed.json()["privacy_filters"]] == ["mine"]


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"rules": [own("(")]}, "pattern_unsupported", "/rules/0/pattern"),
        ({"rules": [own(r"(a)\1")]}, "pattern_unsupported", "/rules/0/pattern"),
        ({"rules": [own("a*")]}, "pattern_unsupported", "/rules/0/pattern"),
        ({"rules": [EMAIL, own("")]}, "invalid_value", "/rules/1/detector"),
        ({"rules": [EMAIL, EMAIL]}, "invalid_value", "/rules/1/detector"),
        ({"rules": [{"detector": "email"}]}, "invalid_value", "/rules/0/action"),
        ({"methods": ["models"]}, "invalid_value", "/methods/0"),
        ({"models": ["Fraud"]}, "invalid_value", "/models/0"),
        ({"streams": ["trainer"]}, "invalid_value", "/streams/0"),
        ({"methods": []}, "invalid_value", "/models"),
    ],
)  # fmt: skip
async def test_a_filter_that_cannot_work_is_refused(gateway: Gateway, change: Any, code: str, pointer: str) -> None:
    answer = await ask(gateway, None, "POST", "/v1/privacy-filters", filter_of("wrong") | change)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["violations"][0]["pointer"] == pointer


async def test_texts_of_requests_are_masked_or_hashed_before_anybody_hears_them(gateway: Gateway) -> None:
    key = await gateway.tenant("privacy-masks")
    hashed = {"detector": "card", "action": "PRIVACY_ACTION_HASH"}
    await made(gateway, key, "mine", EMAIL, hashed)

    assert await described(gateway, key, "of bob@example.com") == "of [email]"
    first, second = [await described(gateway, key, text) for text in ("4111 1111 1111 1111", "4111111111111111")]
    assert first == second
    assert first.startswith("[card:")
    other = await gateway.tenant("privacy-masks-not")
    assert await described(gateway, other, "of bob@example.com") == "of bob@example.com"


async def test_a_refusal_names_the_field_and_the_detector_and_not_the_value(gateway: Gateway) -> None:
    key = await gateway.tenant("privacy-refuses")
    await made(gateway, key, "mine", {"detector": "email", "action": "PRIVACY_ACTION_REFUSE"})
    seen = gateway.services["aimass.v1.Models"].seen
    before = len(seen)
    answer = await described(gateway, key, "of bob@example.com")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value")
    assert answer.json()["violations"] == [
        {"pointer": "/description", "rule": "must hold nothing that the detector email finds"}
    ]
    assert "bob" not in answer.text
    assert len(seen) == before


async def test_a_pattern_of_ones_own_is_a_detector(gateway: Gateway) -> None:
    key = await gateway.tenant("privacy-own")
    await made(gateway, key, "mine", {"detector": "staff", "pattern": r"EMP-\d{6}", "action": "PRIVACY_ACTION_MASK"})

    assert await described(gateway, key, "EMP-123456 asked") == "[staff] asked"


async def test_a_filter_is_for_its_methods_only_and_ends_when_it_is_deleted(gateway: Gateway) -> None:
    key = await gateway.tenant("privacy-where")
    await made(gateway, key, "mine", methods=["Jobs/*"])
    seen = [await described(gateway, key, "a@b.de")]
    await ask(gateway, key, "PATCH", "/v1/privacy-filters/mine", {"methods": ["Models/CreateModel"]}, if_match="*")
    seen.append(await described(gateway, key, "a@b.de"))
    await ask(gateway, key, "DELETE", "/v1/privacy-filters/mine", if_match="*")
    seen.append(await described(gateway, key, "a@b.de"))

    assert seen == ["a@b.de", "[email]", "a@b.de"]


async def test_a_large_request_is_filtered_whole(gateway: Gateway) -> None:
    key = await gateway.tenant("privacy-large")
    await made(gateway, key, "mine")
    text = await described(gateway, key, "x " * 400 + "bob@example.com")

    assert text == "x " * 400 + "[email]"


async def test_what_is_written_down_of_a_request_holds_nothing(gateway: Gateway) -> None:
    key = await gateway.tenant("privacy-written")
    await made(gateway, key, "mine", EMAIL, {"detector": "card", "action": "PRIVACY_ACTION_REFUSE"})
    for path in ("/v1/models/eve@example.com", "/v2/models/eve@example.com", "/v3/eve%40example.com"):
        answer = await ask(gateway, key, "GET", path, x_request_id="4111-1111-1111-1111")
        assert "eve@" not in answer.text + str(answer.headers), path
        assert "[email]" in answer.json()["instance"]
        assert answer.headers["x-request-id"] != "4111-1111-1111-1111"
    await asyncio.sleep(0.5)
    log = (gateway.home / "logs" / "access.log").read_text()
    assert "eve@" not in log
    assert "4111-1111" not in log
    assert any("[email]" in json.loads(line)["path"] for line in log.splitlines())


async def test_another_tenants_filter_is_not_there(gateway: Gateway) -> None:
    owner, stranger = await gateway.tenant("privacy-owner"), await gateway.tenant("privacy-stranger")
    await made(gateway, owner, "hidden")

    assert (await ask(gateway, stranger, "GET", "/v1/privacy-filters/hidden")).status_code == 404
    assert (await made(gateway, stranger, "hidden"))["etag"] == "1"


async def test_a_tenant_has_twenty_at_most(gateway: Gateway) -> None:
    key = await gateway.tenant("privacy-many")
    for number in range(20):
        await made(gateway, key, f"f{number}", models=["none"])
    answer = await ask(gateway, key, "POST", "/v1/privacy-filters", filter_of("more"))

    assert answer.json()["code"] == "limit_exceeded"


async def test_a_change_of_a_filter_is_told(gateway: Gateway) -> None:
    key = await gateway.tenant("privacy-told")
    await made(gateway, key, "told-of")
    (told,) = await heard(gateway, events.PrivacyFilterChanged, "told-of")

    assert (told.generation, told.privacy_filter.rules[0].detector) == (1, "email")
