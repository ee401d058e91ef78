"""Budgets and prices over the door: who may set whose, what they say, what makes no sense."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.test_roles import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")
WANTED = {"subject": "key:abcd1234", "meter": "METER_REQUESTS", "period": "PERIOD_MONTH", "amount": 10}


async def made(gateway: Gateway, name: str, key: str | None = None, **wanted: Any) -> Any:
    answer = await ask(gateway, key, "POST", "/v1/quotas", {"quota": name} | WANTED | wanted)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(gateway: Gateway, key: str | None = None, **wanted: Any) -> tuple[str, str]:
    answer = (await ask(gateway, key, "POST", "/v1/quotas", {"quota": "refused"} | WANTED | wanted)).json()
    return str(answer["code"]), str(answer["detail"])


async def test_a_budget_is_set_read_changed_deleted_and_undeleted(gateway: Gateway) -> None:
    first = await made(gateway, "whole")
    read = await ask(gateway, None, "GET", "/v1/quotas/whole")
    changed = await ask(gateway, None, "PATCH", "/v1/quotas/whole", {"amount": 20}, if_match=read.headers["etag"])
    stale = await ask(gateway, None, "PATCH", "/v1/quotas/whole", {"amount": 30}, if_match='"1"')
    gone = await ask(gateway, None, "DELETE", "/v1/quotas/whole", if_match='"2"')
    missing = await ask(gateway, None, "GET", "/v1/quotas/whole")
    again = await ask(gateway, None, "POST", "/v1/quotas", {"quota": "whole"} | WANTED)
    back = await ask(gateway, None, "POST", "/v1/quotas/whole:undelete", {})
    now = datetime.now(UTC)

    assert read.json() == first
    assert (first["spent"], first["reserved"], first["amount"]) == ("0", "0", "10")
    assert first["period_start"] == f"{now:%Y-%m}-01T00:00:00Z"
    assert (changed.json()["etag"], changed.json()["amount"]) == ("2", "20")
    assert (stale.status_code, stale.json()["code"]) == (412, "etag_mismatch")
    assert gone.json()["delete_time"]
    assert (missing.status_code, again.json()["code"]) == (404, "already_exists")
    assert (back.json()["etag"], back.json()["amount"]) == ("4", "20")


async def test_budgets_are_listed_in_pages_and_those_of_others_are_not(gateway: Gateway) -> None:
    key = await gateway.tenant("quota-lister")
    for name in ("c", "a", "b"):
        await made(gateway, name, key)
    await ask(gateway, key, "DELETE", "/v1/quotas/b", if_match="*")
    first = (await ask(gateway, key, "GET", "/v1/quotas?page_size=1")).json()
    rest = (await ask(gateway, key, "GET", f"/v1/quotas?page_token={first['next_page_token']}")).json()
    deleted = (await ask(gateway, key, "GET", "/v1/quotas?show_deleted=true")).json()

    assert [one["quota"] for one in first["quotas"] + rest["quotas"]] == ["a", "c"]
    assert [one["quota"] for one in deleted["quotas"]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"subject": "somebody"}, "/subject"),
        ({"subject": "key:short"}, "/subject"),
        ({"subject": "project:Not_a_name"}, "/subject"),
        ({"amount": -1}, "/amount"),
        ({"amount": 10**15 + 1}, "/amount"),
    ],
)
async def test_what_makes_no_sense_is_refused(gateway: Gateway, wanted: dict[str, Any], pointer: str) -> None:
    answer = await ask(gateway, None, "POST", "/v1/quotas", {"quota": "nonsense"} | WANTED | wanted)

    assert answer.json()["code"] == "invalid_value"
    assert answer.json()["violations"][0]["pointer"] == pointer


async def test_the_budget_of_a_tenant_is_set_by_who_administers_the_installation(gateway: Gateway) -> None:
    key = await gateway.tenant("quota-tenant")
    own = await refused(gateway, key, subject="tenant")
    await made(gateway, "whole-tenant", tenant="quota-tenant", subject="tenant")
    seen = await ask(gateway, key, "GET", "/v1/quotas/whole-tenant")
    raised = await ask(gateway, key, "PATCH", "/v1/quotas/whole-tenant", {"amount": 99}, if_match="*")
    removed = await ask(gateway, key, "DELETE", "/v1/quotas/whole-tenant", if_match="*")
    changed = await ask(
        gateway, None, "PATCH", "/v1/quotas/whole-tenant", {"tenant": "quota-tenant", "amount": 99}, if_match="*"
    )

    assert own == ("forbidden", "the quota of a tenant is set by administrators of the installation")
    assert seen.json()["amount"] == "10"
    assert [raised.json()["code"], removed.json()["code"]] == ["forbidden", "forbidden"]
    assert changed.json()["amount"] == "99"


async def test_another_tenant_is_not_there(gateway: Gateway) -> None:
    key = await gateway.tenant("quota-stranger")
    for answer in (
        await ask(gateway, key, "GET", "/v1/quotas?tenant=default"),
        await ask(gateway, key, "GET", "/v1/quotas/whole?tenant=default"),
        await ask(gateway, key, "GET", "/v1/usage?tenant=default"),
        await ask(gateway, key, "POST", "/v1/quotas", {"quota": "x", "tenant": "default"} | WANTED),
    ):
        assert answer.json()["code"] == "not_found", answer.text


async def test_who_has_a_budget_cannot_raise_it_nor_get_round_it(gateway: Gateway) -> None:
    key = await gateway.tenant("quota-own")
    who = f"key:{key[4:12]}"
    await made(gateway, "mine", key, subject=who)
    for answer in (
        await ask(gateway, key, "PATCH", "/v1/quotas/mine", {"amount": 10**9}, if_match="*"),
        await ask(gateway, key, "DELETE", "/v1/quotas/mine", if_match="*"),
        await ask(gateway, key, "POST", "/v1/quotas", {"quota": "more"} | WANTED),
        await ask(gateway, key, "POST", "/v1/api-keys", {}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), answer.text


async def test_a_right_in_one_project_is_for_the_budget_of_that_project(gateway: Gateway) -> None:
    owner = await gateway.tenant("quota-project")
    key = str((await ask(gateway, owner, "POST", "/v1/api-keys", {"projects": ["late"]})).json()["secret"])
    body = {"quota": "ours"} | WANTED | {"subject": "project:late"}
    ours = await ask(gateway, key, "POST", "/v1/quotas", body, x_project="late")
    other = await ask(
        gateway, key, "POST", "/v1/quotas", body | {"quota": "b", "subject": "project:fraud"}, x_project="late"
    )
    of_key = await ask(gateway, key, "POST", "/v1/quotas", {"quota": "c"} | WANTED, x_project="late")

    assert ours.status_code == 200, ours.text
    assert other.json()["detail"] == "quotas.create is not permitted in fraud"
    assert of_key.json()["detail"] == "quotas.create is not permitted in all projects"


async def test_what_was_used_is_shown_for_all_projects_to_who_has_the_right_in_all(gateway: Gateway) -> None:
    owner = await gateway.tenant("quota-usage")
    key = str((await ask(gateway, owner, "POST", "/v1/api-keys", {"projects": ["late"]})).json()["secret"])
    here = await ask(gateway, key, "GET", "/v1/usage", x_project="late")
    everywhere = await ask(gateway, key, "GET", "/v1/usage?all_projects=true", x_project="late")
    whole = await ask(gateway, owner, "GET", "/v1/usage?all_projects=true&group_by=project&period=PERIOD_DAY")
    wrong = await ask(gateway, owner, "GET", "/v1/usage?group_by=colour")

    assert (here.status_code, whole.json()["rows"]) == (200, [])
    assert everywhere.json()["detail"] == "usage.list is not permitted in all projects"
    assert wrong.json()["violations"][0]["pointer"] == "/group_by/0"


async def test_prices_are_made_by_who_administers_the_installation_and_never_changed(gateway: Gateway) -> None:
    key = await gateway.tenant("quota-prices")
    body = {"currency": "EUR", "prices": [{"meter": "METER_ROWS", "micros": 5, "per": 1000}]}
    first = (await ask(gateway, None, "POST", "/v1/price-lists", body)).json()
    second = (await ask(gateway, None, "POST", "/v1/price-lists", body)).json()
    denied = (await ask(gateway, key, "POST", "/v1/price-lists", body)).json()
    listed = (await ask(gateway, key, "GET", "/v1/price-lists?page_size=1")).json()

    assert second["version"] == first["version"] + 1
    assert denied["code"] == "forbidden"
    assert listed["price_lists"] == [first]
    assert listed["next_page_token"]


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"currency": "eur"}, "/currency"),
        ({"valid_from": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}, "/valid_from"),
        ({"prices": [{"meter": "METER_MONEY_MICROS", "micros": 1}]}, "/prices/0/meter"),
        ({"prices": [{"meter": "METER_ROWS", "micros": 1, "kind": "hiring"}]}, "/prices/0/kind"),
        ({"prices": [{"meter": "METER_ROWS", "micros": -1}]}, "/prices/0"),
        ({"prices": [{"meter": "METER_ROWS", "micros": 1}] * 2}, "/prices/1"),
        ({"prices": [{"micros": 1}]}, "/prices/0/meter"),
    ],
)
async def test_prices_that_make_no_sense_are_refused(gateway: Gateway, wanted: dict[str, Any], pointer: str) -> None:
    body = {"currency": "EUR", "prices": [{"meter": "METER_ROWS", "micros": 5}]} | wanted
    answer = (await ask(gateway, None, "POST", "/v1/price-lists", body)).json()

    assert (answer["code"], answer["violations"][0]["pointer"]) == ("invalid_value", pointer)


async def test_a_job_that_asks_for_more_than_there_is_time_is_no_bug(gateway: Gateway) -> None:
    rows = {"column": "month", "from": 1, "to": 2}
    most = {"timeout_seconds": 2**31 - 1, "max_attempts": 2**31 - 1}
    spec = {"model": "late", "feature_set": "late", "train": rows, "evaluate": rows, "lightgbm": {}} | most
    answer = await ask(gateway, None, "POST", "/v1/jobs", {"spec": spec})
    assert answer.status_code in (202, 422), answer.text  # who says what is possible is the trainer
