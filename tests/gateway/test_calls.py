from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import datasets_pb2, models_pb2
from services.gateway.calls import Calls, passed_metadata
from services.gateway.narrowing import acting, narrowed
from services.kit import contract
from services.kit.auth import Identity, Principal, Scope
from services.kit.errors import Disconnected, Failure
from tests.gateway.serving import DOORS, Serving
from tests.support.house import house


def caller(*permissions: str) -> Principal:
    return Principal(Scope("acme"), "key:a", permissions)


def test_a_service_sees_what_it_can_use_only() -> None:
    principal = caller("models.get", "jobs.*", "operations.get", "sources.read")

    assert narrowed(principal, "registry").permissions == ("models.get", "operations.get")
    assert narrowed(principal, "trainer").permissions == ("jobs.*", "operations.get")
    assert narrowed(principal, "gateway").permissions == ("operations.get",)


def test_a_star_stays_a_star() -> None:
    assert narrowed(caller("*"), "logs").permissions == ("*",)


def test_a_call_carries_the_right_on_its_object_and_no_other() -> None:
    method = contract.all_methods()["/aimass.v1.Models/GetModel"]
    objects = tuple(f"models.get,models.list@models/other,models/fraud-{number}" for number in range(100))
    found = acting(caller("jobs.get", *objects), "registry", method, models_pb2.GetModelRequest(model="fraud-7"))

    assert found.permissions == ("models.get@models/fraud-7",)


@pytest.mark.parametrize("audience", ["gateway", "data", "trainer", "registry", "inference", "logs"])
def test_a_token_of_one_who_has_everything_by_name_is_below_4_kib(tmp_path: Path, audience: str) -> None:
    needed = [method.policy.permission for method in contract.all_methods().values() if method.policy.permission]
    patterns = [*needed, *(f"{permission.partition('.')[0]}.*" for permission in needed)]
    objects = [f"{permission}@models/{'a' * 60}{number}*" for permission in needed for number in range(20)]
    scope = Scope("a" * 63, "b" * 63)
    principal = Principal(scope, "key:abcd1234", (*patterns, *patterns, *objects))

    assert len(Identity("x" * 40, tmp_path).token(audience, narrowed(principal, audience))) < 4096 - 300


def test_what_goes_with_a_call_is_a_short_list() -> None:
    headers = {"if-match": '"3"', "authorization": "Bearer x", "x-tenant": "system", "idempotency-key": ""}

    assert passed_metadata(lambda name: headers.get(name, "")) == {"if-match": '"3"'}


@pytest.mark.parametrize("value", ["\x00", "ä", "a" * 2000, "a\nb"])
def test_what_is_no_plain_text_is_not_passed_on(value: str) -> None:
    with pytest.raises(Failure, match="plain ASCII"):
        passed_metadata(lambda name: value if name == "if-match" else "")


class Losing:
    """The way to a service that loses the answer of the first call; what calls carried."""

    def __init__(self) -> None:
        self.carried: list[dict[str, str]] = []

    def __call__(self, sent: bytes, timeout: float, metadata: Any) -> "Losing":
        self.carried.append(dict(metadata))
        return self

    def __await__(self) -> Any:
        if len(self.carried) == 1:
            raise Disconnected("data is unavailable")
        yield from ()
        return datasets_pb2.QueryDataSetsResponse().SerializeToString()

    async def trailing_metadata(self) -> Any:
        return ()


async def test_a_query_that_is_asked_again_carries_a_reservation_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing = Losing()
    monkeypatch.setattr(Calls, "_stub", lambda *asked: losing)
    async with house(tmp_path, "gateway", "data", AIMASS_DISK_PERCENT="100", **DOORS) as running:
        wanted = {"sql": "SELECT 1", "tables": [{"data_set": "raw"}]}
        answer = await Serving(running).post("/v1/data-sets:query", wanted, content_type="application/json")

    assert answer.status_code == 200
    first, second = losing.carried
    assert second["x-attempt"] == "2"
    assert first["reservation"] != second["reservation"]
