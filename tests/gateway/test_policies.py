"""Policies over the door: made, tested, activated; what they refuse, and why."""

from typing import Any

import grpc
import pytest
from grpc import aio

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import models_pb2
from aimass.v1.audit_events_pb2 import CallAudited
from aimass.v1.models_pb2_grpc import ModelsStub
from services.kit.status import failure_of
from tests.gateway.conftest import Gateway
from tests.gateway.test_access import heard

pytestmark = pytest.mark.asyncio(loop_scope="module")
VERSIONS = "/v1/policies/versions"
DENY, ONLY = "POLICY_EFFECT_DENY", "POLICY_EFFECT_ALLOW_ONLY"
ALLOWED, REFUSED = "POLICY_OUTCOME_ALLOWED", "POLICY_OUTCOME_REFUSED"


async def ask(gateway: Gateway, key: str | None, verb: str, path: str, body: Any = None, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.client(key, **named) as client:
        return await client.request(verb, path, json=body)


def rule(name: str, effect: str = DENY, **parts: Any) -> dict[str, Any]:
    return {"name": name, "effect": effect, **parts}


async def made(gateway: Gateway, key: str, *rules: dict[str, Any], **more: Any) -> int:
    answer = await ask(gateway, key, "POST", VERSIONS, {"rules": rules, **more})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["version"])


async def tried(gateway: Gateway, key: str, number: int) -> Any:
    answer = await ask(gateway, key, "POST", f"{VERSIONS}/{number}:test", {})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def activate(gateway: Gateway, key: str, number: int, **body: Any) -> Any:
    return await ask(gateway, key, "POST", f"{VERSIONS}/{number}:activate", body)


async def counting(gateway: Gateway, key: str, *rules: dict[str, Any], **more: Any) -> int:
    """The number of a version that counts from now on."""
    number = await made(gateway, key, *rules, **more)
    await tried(gateway, key, number)
    answer = await activate(gateway, key, number)
    assert answer.status_code == 200, answer.text
    return number


NO_PROMOTION = rule("no-promotion", what={"permissions": ["versions.promote"]})


async def test_a_tenant_without_policies_has_none(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-none")
    active = (await ask(gateway, key, "GET", "/v1/policies")).json()

    assert (active["version"], active["principal"], active["etag"]) == (0, "", "0")
    assert (await ask(gateway, key, "GET", VERSIONS)).json()["versions"] == []


async def test_a_version_is_kept_as_it_was_made(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-made")
    full = rule(
        "full",
        ONLY,
        description="all that a rule can say",
        who={
            "principals": ["key:abcd1234", "user:corp:*"],
            "except_principals": ["user:corp:root"],
            "kinds": ["CALLER_KIND_KEY", "CALLER_KIND_USER"],
            "roles": ["viewer"],
            "groups": ["group:corp:analysts"],
        },
        what={
            "permissions": ["models.*"],
            "except_permissions": ["models.list"],
            "methods": ["aimass.v1.Models/*"],
            "objects": ["models/fraud-*"],
            "projects": ["team-*"],
            "models": ["fraud-*"],
            "labels": {"risk": "high", "team": "*"},
        },
        when={
            "zone": "Europe/Berlin",
            "days": ["WEEKDAY_MONDAY", "WEEKDAY_FRIDAY"],
            "hours": [{"from": "09:00", "to": "17:30"}],
            "not_before": "2026-01-01T00:00:00Z",
            "not_after": "2036-01-01T00:00:00Z",
        },
        where={"networks": ["10.0.0.0/8", "2001:db8::/32"]},
        how_much={
            "rows": {"min": "0", "max": "100"},
            "bytes": {"min": "1", "max": "0"},
            "cost": {"min": "0", "max": "5"},
        },
    )
    request = {
        "principal": "key:abcd1234",
        "permission": "models.get",
        "object": "models/fraud-eu",
        "roles": ["viewer"],
    }
    example = {"name": "one", "outcome": REFUSED, "request": request | {"time": "2026-06-01T10:00:00Z"}}
    number = await made(gateway, key, full, description="first", examples=[example])
    read = (await ask(gateway, key, "GET", f"{VERSIONS}/{number}")).json()

    assert (number, read["description"], read["active"], "test_time" in read) == (1, "first", False, False)
    assert read["principal"] == f"key:{key[4:12]}"
    assert read["rules"] == [full]
    assert read["examples"][0]["request"] | request == read["examples"][0]["request"]
    assert read["examples"][0]["request"]["project"] == "default"


async def test_versions_are_numbered_and_listed_newest_first(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-listed")
    numbers = [await made(gateway, key, description=f"n{n}") for n in range(3)]
    first = (await ask(gateway, key, "GET", f"{VERSIONS}?page_size=2")).json()
    rest = (await ask(gateway, key, "GET", f"{VERSIONS}?page_size=2&page_token={first['next_page_token']}")).json()

    assert numbers == [1, 2, 3]
    assert [one["version"] for one in (*first["versions"], *rest["versions"])] == [3, 2, 1]


async def test_a_repeated_call_makes_one_version(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-once")
    made_twice = [
        (await ask(gateway, key, "POST", VERSIONS, {"description": "once"}, idempotency_key="k")).json()["version"]
        for _ in range(2)
    ]

    assert made_twice == [1, 1]
    assert len((await ask(gateway, key, "GET", VERSIONS)).json()["versions"]) == 1


async def test_what_cannot_be_meant_is_refused_with_pointers(gateway: Gateway) -> None:
    wrong = [
        rule("one", when={"zone": "Mars/Base", "days": ["WEEKDAY_MONDAY"]}),
        rule("two", where={"networks": ["10.0.0.300"]}),
    ]
    answer = await ask(gateway, None, "POST", VERSIONS, {"rules": wrong})
    nothing = await ask(gateway, None, "POST", VERSIONS, {"rules": [{"name": "three"}]})
    odd = {
        "name": "e",
        "outcome": "POLICY_OUTCOME_NOT_PERMITTED",
        "request": {"principal": "key:a", "permission": "a.b"},
    }
    other = await ask(gateway, None, "POST", VERSIONS, {"examples": [odd]})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value")
    places = [violation["pointer"] for violation in answer.json()["violations"]]
    assert places == ["/rules/0/when/zone", "/rules/1/where/networks/0"]
    assert nothing.json()["violations"][0]["pointer"] == "/rules/0/effect"
    assert other.json()["violations"][0]["pointer"] == "/examples/0/outcome"


async def test_what_is_likely_not_meant_is_said(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-doubts")
    typo = rule("typo", what={"permissions": ["model.infer"]})
    answer = await ask(
        gateway, key, "POST", VERSIONS, {"rules": [NO_PROMOTION, typo, NO_PROMOTION | {"name": "again"}]}
    )

    assert answer.json()["warnings"] == [
        {"rule": "typo", "text": "can never apply: no request is what it is about"},
        {"rule": "again", "text": "can never decide: no-promotion before it refuses all of it"},
    ]


async def test_a_version_counts_when_it_was_tested_and_activated(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-counts")
    number = await made(gateway, key, NO_PROMOTION)
    early = await activate(gateway, key, number)
    promote = "/v1/models/late/versions/1:promote"
    before = await ask(gateway, key, "POST", promote, {})
    await tried(gateway, key, number)
    active = (await activate(gateway, key, number)).json()
    after = await ask(gateway, key, "POST", promote, {}, x_request_id="pol-refused")

    assert (early.status_code, early.json()["detail"]) == (409, "policies version 1 was not tested")
    assert before.status_code == 202
    assert (active["version"], active["principal"], active["etag"]) == (1, f"key:{key[4:12]}", "1")
    assert (after.status_code, after.json()["code"]) == (403, "forbidden")
    assert after.json()["detail"] == "the policy rule no-promotion refuses it"
    assert (await ask(gateway, key, "GET", "/v1/models/late")).status_code == 200
    assert (await heard(gateway, CallAudited, "pol-refused"))[0].outcome == "forbidden"


async def test_policies_are_those_of_one_tenant(gateway: Gateway) -> None:
    key, other = await gateway.tenant("pol-one"), await gateway.tenant("pol-other")
    await counting(gateway, key, NO_PROMOTION)

    assert (await ask(gateway, other, "POST", "/v1/models/late/versions/1:promote", {})).status_code == 202
    assert (await ask(gateway, other, "GET", f"{VERSIONS}/1")).status_code == 404
    assert (await activate(gateway, other, 1)).status_code == 404


async def test_it_is_the_same_over_grpc_and_for_streams(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-grpc")
    await counting(gateway, key, rule("blind", what={"permissions": ["models.get", "logs.search"]}))
    tail = await ask(gateway, key, "GET", "/v1/logs:tail?query=a")
    async with aio.insecure_channel(gateway.doors["grpc"]) as channel:
        stub: Any = ModelsStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetModel(
                models_pb2.GetModelRequest(model="late"), metadata=(("authorization", f"Bearer {key}"),)
            )

    assert failure_of(refused.value, "gateway").detail == "the policy rule blind refuses it"
    assert tail.json()["detail"] == "the policy rule blind refuses it"


async def test_an_older_version_counts_again(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-back")
    first = await counting(gateway, key)
    second = await counting(gateway, key, NO_PROMOTION)
    stale = await activate(gateway, key, first, etag="1")
    back = (await activate(gateway, key, first, etag="2")).json()
    again = (await activate(gateway, key, first)).json()
    shown = (await ask(gateway, key, "GET", VERSIONS)).json()["versions"]

    assert (first, second, stale.status_code, stale.json()["code"]) == (1, 2, 412, "etag_mismatch")
    assert (back["version"], back["etag"], again) == (1, "3", back)
    assert [(one["version"], one["active"]) for one in shown] == [(2, False), (1, True)]
    assert (await ask(gateway, key, "POST", "/v1/models/late/versions/1:promote", {})).status_code == 202
    event = (await heard(gateway, events.PoliciesChanged, key[4:12]))[0]
    assert (event.policies.version, event.generation) == (first, 1)


async def test_examples_must_come_out_as_they_say(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-examples")
    request = {"principal": "key:abcd1234", "permission": "versions.promote"}
    examples = [
        {"name": "refused", "outcome": REFUSED, "request": request},
        {"name": "allowed", "outcome": ALLOWED, "request": request},
    ]
    number = await made(gateway, key, NO_PROMOTION, examples=examples)
    seen = await tried(gateway, key, number)
    answer = await activate(gateway, key, number)

    assert seen["failed_examples"] == [{"name": "allowed", "outcome": REFUSED, "rule": "no-promotion"}]
    assert (answer.status_code, answer.json()["code"]) == (409, "failed_precondition")
    assert answer.json()["detail"] == "policies version 1 fails its examples: allowed"
    assert (await ask(gateway, key, "GET", "/v1/policies")).json()["version"] == 0


@pytest.mark.parametrize(
    "locks",
    [
        rule("everything"),
        rule("elsewhere", ONLY, where={"networks": ["10.0.0.0/8"]}),
        rule("tomorrow", when={"not_before": "2090-01-01T00:00:00Z"}),
        rule("admins", who={"roles": ["admin"]}, what={"permissions": ["policies.*"]}),
    ],
)
async def test_nobody_locks_himself_out(gateway: Gateway, locks: dict[str, Any]) -> None:
    await gateway.tenant("pol-locked")
    key = await gateway.key(tenant="pol-locked", roles=["admin"])
    number = await made(gateway, key, locks)
    await tried(gateway, key, number)
    answer = await activate(gateway, key, number)

    assert (answer.status_code, answer.json()["code"]) == (409, "failed_precondition")
    assert answer.json()["detail"] == f"the rule {locks['name']} would refuse you to activate another version"


async def test_from_where_he_calls_counts_for_who_activates(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-office")
    await counting(gateway, key, rule("here", ONLY, where={"networks": ["127.0.0.0/8", "::1/128"]}))

    assert (await ask(gateway, key, "GET", "/v1/models/late")).status_code == 200


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"who": {"roles": ["viewer"]}}, {"viewer": 403, "operator": 200}),
        ({"who": {"kinds": ["CALLER_KIND_USER"]}}, {"viewer": 200, "operator": 200}),
        ({"what": {"models": ["lat*"]}}, {"viewer": 403, "operator": 403}),
        ({"what": {"objects": ["models/early"]}}, {"viewer": 200, "operator": 200}),
        ({"what": {"projects": ["team-*"]}}, {"viewer": 200, "operator": 200}),
        ({"what": {"methods": ["aimass.v1.Models/GetModel"]}}, {"viewer": 403, "operator": 403}),
        ({"how_much": {"bytes": {"min": "1"}}}, {"viewer": 403, "operator": 403}),
        ({"how_much": {"cost": {"min": "2"}}}, {"viewer": 200, "operator": 200}),
    ],
)
async def test_a_rule_asks_who_and_what(gateway: Gateway, parts: dict[str, Any], expected: dict[str, int]) -> None:
    key = await gateway.tenant("pol-asks")
    what = {"permissions": ["models.get"]} | parts.get("what", {})
    await counting(gateway, key, rule("asked", **parts | {"what": what}))
    found = {}
    for role in expected:
        caller = await gateway.key(tenant="pol-asks", roles=[role])
        found[role] = (await ask(gateway, caller, "GET", "/v1/models/late")).status_code

    assert found == expected


async def test_a_role_of_a_binding_is_a_role(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-bound")
    caller = await gateway.key(tenant="pol-bound", bindings_only=True)
    bound = {"binding": "b", "role": "viewer", "principal": f"key:{caller[4:12]}", "projects": ["team-a"]}
    await ask(gateway, key, "POST", "/v1/bindings", bound)
    await ask(
        gateway, key, "POST", "/v1/bindings", bound | {"binding": "c", "role": "operator", "projects": ["team-b"]}
    )
    await counting(gateway, key, rule("viewers", what={"permissions": ["models.get"]}, who={"roles": ["operator"]}))
    found = [
        (await ask(gateway, caller, "GET", "/v1/models/late", x_project=p)).status_code for p in ("team-a", "team-b")
    ]

    assert found == [200, 403]


async def test_a_decision_is_explained(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-why")
    caller = await gateway.key(tenant="pol-why", roles=["operator"], permissions=["versions.*"])
    who = f"key:{caller[4:12]}"
    office = rule(
        "office",
        ONLY,
        who={"roles": ["operator"]},
        when={"zone": "Europe/Berlin", "hours": [{"from": "09:00", "to": "17:00"}]},
        where={"networks": ["10.0.0.0/8"]},
    )
    number = await counting(gateway, key, rule("guests", who={"kinds": ["CALLER_KIND_USER"]}), office)
    request = {"principal": who, "permission": "versions.promote", "object": "models/late", "address": "10.1.2.3"}
    late = {"request": request | {"time": "2030-01-07T16:30:00Z"}}
    answer = (await ask(gateway, key, "POST", "/v1/policies:explain", late)).json()
    early = {"request": request | {"time": "2030-01-07T10:00:00Z"}}
    allowed = (await ask(gateway, key, "POST", "/v1/policies:explain", early)).json()

    assert (answer["outcome"], answer["rule"], answer["version"]) == (REFUSED, "office", number)
    assert answer["reason"] == f"the rule office of policies version {number} refuses it"
    sources = [(one["permission"], one["role"]) for one in answer["permitted_by"]]
    assert sources == [("versions.*", ""), ("versions.promote", "operator")]
    assert answer["request"]["roles"] == ["operator"]
    guests, hours = answer["rules"]
    assert guests["comparisons"] == [{"condition": "who.kinds", "expected": "user", "found": "key", "holds": False}]
    assert hours["comparisons"] == [
        {"condition": "who.roles", "expected": "operator", "found": "operator", "holds": True},
        {"condition": "when.hours", "expected": "09:00-17:00", "found": "17:30 in Europe/Berlin", "holds": False},
        {"condition": "where.networks", "expected": "10.0.0.0/8", "found": "10.1.2.3", "holds": True},
    ]
    assert (allowed["outcome"], allowed["rule"]) == (ALLOWED, "")


async def test_what_roles_do_not_permit_rules_do_not_either(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-roles")
    viewer = await gateway.key(tenant="pol-roles", roles=["viewer"])
    stranger = {"principal": f"key:{(await gateway.key())[4:12]}", "permission": "models.get"}
    request = {"principal": f"key:{viewer[4:12]}", "permission": "models.create", "object": "models/new"}
    found = [
        (await ask(gateway, key, "POST", "/v1/policies:explain", {"request": one})).json()
        for one in (request, stranger)
    ]

    assert [one["outcome"] for one in found] == ["POLICY_OUTCOME_NOT_PERMITTED"] * 2
    assert [one["permitted_by"] for one in found] == [[], []]
    assert (await ask(gateway, viewer, "POST", "/v1/models", {"model": "new"})).json()["detail"] == (
        "models.create is not permitted"
    )


async def test_policies_are_there_after_a_restart(gateway: Gateway) -> None:
    key = await gateway.tenant("pol-again")
    number = await counting(gateway, key, NO_PROMOTION)
    policies = gateway.house.runtime.apps["gateway"].rpc["aimass.v1.Policies"]._policies
    policies._guards.clear()
    policies._active.clear()
    await policies.load()

    assert policies.guards["pol-again"].compiled.version == number
