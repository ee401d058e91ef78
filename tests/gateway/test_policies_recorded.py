"""What was decided lately: kept as a sample, through a restart, and what a version is tried on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.gateway.database import open_database
from services.gateway.policies.domain.rules import Effect, Facts, Rule, What
from services.gateway.policies.recorder import Recorder
from services.gateway.policies.service import changes
from services.gateway.policies.store.decisions import DecisionStore
from tests.gateway.conftest import Gateway, gateway_at
from tests.gateway.test_policies import ALLOWED, NO_PROMOTION, REFUSED, ask, counting, made
from tests.support.house import until

module = pytest.mark.asyncio(loop_scope="module")
NOW = datetime(2030, 6, 5, 12, tzinfo=UTC)
FACTS = Facts("key:abcd1234", "models.get", NOW, "aimass.v1.Models/GetModel", "models/late", address="10.1.2.3")
DECISIONS = "/v1/policies/decisions"


async def decided(gateway: Gateway, key: str, count: int, query: str = "") -> list[dict[str, Any]]:
    """At least so many decisions, newest first, without those about policies themselves."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        nonlocal found
        decisions = (await ask(gateway, key, "GET", f"{DECISIONS}{query}")).json()["decisions"]
        found = [one for one in decisions if one["request"]["permission"].split(".")[0] != "policies"]
        return len(found) >= count

    await until(there, 10)
    return found


@module
async def test_decisions_are_kept_with_who_what_where_and_how_much(gateway: Gateway) -> None:
    key = await gateway.tenant("rec-kept")
    await ask(gateway, key, "GET", "/v1/models/late", x_project="team-a")
    [one] = await decided(gateway, key, 1)
    request = one["request"]

    assert (one["outcome"], one["rule"], one["version"]) == (ALLOWED, "", 0)
    assert (request["principal"], request["permission"]) == (f"key:{key[4:12]}", "models.get")
    assert (request["method"], request["object"]) == ("aimass.v1.Models/GetModel", "models/late")
    assert (request["project"], request["address"], request["bytes"]) == ("team-a", "127.0.0.1", "6")
    assert request["time"].startswith("20")


@module
async def test_decisions_of_another_tenant_are_not_there(gateway: Gateway) -> None:
    key, other = await gateway.tenant("rec-mine"), await gateway.tenant("rec-theirs")
    await ask(gateway, key, "GET", "/v1/models/late")
    [one] = await decided(gateway, key, 1)
    asked = {"decision": one["decision"]}

    assert not await decided(gateway, other, 0)
    assert (await ask(gateway, other, "POST", "/v1/policies:explain", asked)).status_code == 404
    assert (await ask(gateway, key, "POST", "/v1/policies:explain", asked)).json()["outcome"] == ALLOWED


@module
async def test_a_version_is_tried_on_what_was_decided(gateway: Gateway) -> None:
    key = await gateway.tenant("rec-tried")
    for name in ("one", "two", "three"):
        await ask(gateway, key, "POST", f"/v1/models/{name}/versions/1:promote", {})
    await ask(gateway, key, "GET", "/v1/models/late")
    await decided(gateway, key, 4)
    number = await made(gateway, key, NO_PROMOTION)
    path = f"/v1/policies/versions/{number}:test"
    first = (await ask(gateway, key, "POST", path, {"page_size": 2})).json()
    rest = (await ask(gateway, key, "POST", path, {"page_size": 2, "page_token": first["next_page_token"]})).json()

    assert first["decisions"] >= 4
    assert (first["newly_refused"], first["newly_allowed"]) == (3, 0)
    shown = [*first["changes"], *rest["changes"]]
    objects = [one["decision"]["request"]["object"] for one in shown]
    assert objects == ["models/three", "models/two", "models/one"]
    assert {(one["outcome"], one["rule"]) for one in shown} == {(REFUSED, "no-promotion")}


@module
async def test_what_a_rule_refused_would_be_allowed_without_it(gateway: Gateway) -> None:
    key = await gateway.tenant("rec-freed")
    number = await counting(gateway, key, NO_PROMOTION)
    assert (await ask(gateway, key, "POST", "/v1/models/late/versions/1:promote", {})).status_code == 403
    [one] = await decided(gateway, key, 1)
    empty = await made(gateway, key)
    tried = (await ask(gateway, key, "POST", f"/v1/policies/versions/{empty}:test", {})).json()
    why = (await ask(gateway, key, "POST", "/v1/policies:explain", {"decision": one["decision"]})).json()

    assert (one["outcome"], one["rule"], one["version"]) == (REFUSED, "no-promotion", number)
    assert (tried["newly_refused"], tried["newly_allowed"]) == (0, 1)
    assert tried["changes"][0]["decision"] == one
    assert (why["outcome"], why["rule"], why["permitted_by"][0]["permission"]) == (REFUSED, "no-promotion", "*")


@module
@pytest.mark.parametrize("asked", [{}, {"decision": "x", "request": {"principal": "key:a", "permission": "a.b"}}])
async def test_one_thing_is_explained_at_a_time(gateway: Gateway, asked: dict[str, Any]) -> None:
    answer = await ask(gateway, None, "POST", "/v1/policies:explain", asked)

    assert (answer.status_code, answer.json()["violations"][0]["pointer"]) == (422, "/request")


async def test_decisions_are_there_after_a_restart(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as first:
        await ask(first, None, "GET", "/v1/roles/viewer")
    async with gateway_at(tmp_path) as second:
        found = (await ask(second, None, "GET", DECISIONS)).json()["decisions"]

    assert [one["request"]["object"] for one in found if one["request"]["object"]] == ["roles/viewer"]


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    database = open_database("", tmp_path)
    await database.start()
    yield DecisionStore(database)
    database.close()


async def taken(recorder: Recorder, count: int, of: Any, tenant: str = "acme") -> None:
    for number in range(count):
        recorder.take(tenant, of(number), "", 0)
    await recorder.write()


def on(number: int) -> Facts:
    return Facts("key:abcd1234", "models.get", NOW, thing=f"models/m{number}")


def by(number: int) -> Facts:
    return Facts(f"key:k{number}", "models.get", NOW, thing="models/late")


async def test_the_same_is_kept_once_and_what_differs_in_its_object_a_few_times(store: DecisionStore) -> None:
    recorder = Recorder(store)
    await taken(recorder, 50, lambda number: FACTS)
    await taken(recorder, 50, on)

    assert len(await store.newest("acme")) == 21


async def test_predictions_are_looked_at_a_few_times_between_two_writes(store: DecisionStore) -> None:
    recorder, again = Recorder(store), list[str]()
    recorder.again = again.extend
    looks = [recorder.take("acme", by(number), "", 0, hot=True) for number in range(22)]
    assert recorder.take("acme", by(98), "", 0)
    await recorder.write()

    assert looks == [True] * 19 + [False] * 3
    assert (len(await store.newest("acme")), again) == (21, ["acme"])
    assert recorder.take("acme", by(99), "", 0, hot=True)


async def test_an_hour_has_its_most_and_the_next_begins_anew(store: DecisionStore) -> None:
    recorder = Recorder(store)
    await taken(recorder, 1300, by)
    await taken(recorder, 3, by, "other")
    assert (len(await store.newest("acme")), len(await store.newest("other"))) == (1000, 3)

    oldest = (await store.newest("acme"))[-1].decision
    later = Recorder(store)
    await taken(later, 5, by)
    found = await store.newest("acme")
    assert (len(found), found[-1].decision > oldest) == (1000, True)


async def test_what_cannot_be_written_is_given_up(tmp_path: Path) -> None:
    database = open_database("", tmp_path)
    await database.start()
    database.close()
    recorder = Recorder(DecisionStore(database))
    recorder.take("acme", FACTS, "", 0)
    await recorder.write()

    assert recorder.take("acme", by(1), "", 0)


async def test_changes_are_those_that_come_out_otherwise(store: DecisionStore) -> None:
    recorder = Recorder(store)
    recorder.take("acme", FACTS, "", 1)
    recorder.take("acme", by(1), "old", 1)
    recorder.take("acme", by(2), "old", 1)
    await recorder.write()
    written = [Rule("new", Effect.DENY, what=What(permissions=("models.get",), models=("late",)))]
    found = await store.newest("acme")

    assert [one.decision.facts for one in changes(written, found)] == [FACTS]
    assert [one.rule for one in changes((), found)] == ["", ""]
    assert found[-1].facts == FACTS
