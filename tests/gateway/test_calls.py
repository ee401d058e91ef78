import pytest

from services.gateway.calls import narrowed, said
from services.kit.auth import Principal, Scope
from services.kit.errors import Failure


def caller(*permissions: str) -> Principal:
    return Principal(Scope("acme"), "key:a", permissions)


def test_a_service_sees_what_it_can_use_only() -> None:
    principal = caller("models.get", "jobs.*", "operations.get", "sources.read")

    assert narrowed(principal, "registry").permissions == ("models.get", "operations.get")
    assert narrowed(principal, "trainer").permissions == ("jobs.*", "operations.get")
    assert narrowed(principal, "gateway") is principal


def test_a_star_stays_a_star() -> None:
    assert narrowed(caller("*"), "logs").permissions == ("*",)


def test_what_goes_with_a_call_is_a_short_list() -> None:
    headers = {"if-match": '"3"', "authorization": "Bearer x", "x-tenant": "system", "idempotency-key": ""}

    assert said(lambda name: headers.get(name, "")) == {"if-match": '"3"'}


@pytest.mark.parametrize("value", ["\x00", "ä", "a" * 2000, "a\nb"])
def test_what_is_no_plain_text_is_not_passed_on(value: str) -> None:
    with pytest.raises(Failure, match="plain ASCII"):
        said(lambda name: value if name == "if-match" else "")
