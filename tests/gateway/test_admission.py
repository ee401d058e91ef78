"""Who is let in: credentials of every kind against a keyring, and buckets behind them."""

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.access.domain import ApiKey, RateLimit, Tenant, digest
from services.gateway.access.keyring import Keyring
from services.gateway.admission import Admission
from services.gateway.charging import enough
from services.gateway.grpc_call import GrpcCall
from services.gateway.limits import Buckets, Limit, Standing
from services.gateway.privacy.cleaner import Cleaner
from services.gateway.receipts import Receipts
from services.gateway.signatures import Signatures
from services.kit.auth import Principal
from services.kit.cache import NearCache
from services.kit.errors import Code, Failure
from services.kit.privacy.policies import Policies
from services.kit.secrets import Vault

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PEPPER = bytes(32)
SECRET, OTHER = "aim_abcdefgh_" + "x" * 43, "aim_ijklmnop_" + "y" * 43


def ring(**changes: Any) -> Keyring:
    """Two keys of acme; changes are the first one's."""
    known: dict[str, Any] = {"tenant": "acme", "display_name": "", "permissions": ("*",), "create_time": NOW}
    found = Keyring(PEPPER, lambda: NOW)
    keys = [(ApiKey("abcdefgh", **(known | changes)), SECRET), (ApiKey("ijklmnop", **known), OTHER)]
    found.replace([Tenant("acme", "", NOW)], [(key, digest(PEPPER, secret)) for key, secret in keys])
    return found


def gate(held: Keyring | None = None, rate: float = 1.0, burst: float = 3.0) -> Admission:
    """With a clock that stands still."""
    keyring = held or ring()
    vault, limiter = Vault(Path("unused"), base64.b64encode(bytes(32)).decode()), Buckets(clock=lambda: 0.0)
    signatures, receipts = Signatures(lambda: keyring, vault, NearCache()), Receipts(vault, NOW.timestamp)
    more = signatures, receipts, Cleaner(Policies(vault.derive)), lambda host: True
    return Admission(lambda: keyring, Limit(rate, burst), limiter, lambda tenant: None, *more)


def taken(admitted: Admission, principal: Principal, cost: float) -> Standing:
    """What one process tells at once."""
    standing = admitted.charge(principal).begin(cost)
    assert standing
    return standing


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER"])
def test_the_kind_of_a_credential_has_no_case(kind: str) -> None:
    assert gate().identify(f"{kind} {SECRET}", "").scope == ("acme", "default")


def test_spaces_around_a_key_are_none_of_it() -> None:
    assert gate().identify(f"Bearer   {SECRET}  ", "flights").scope.project == "flights"


@pytest.mark.parametrize("user", ["", "anyone", "a b", "\u00e9"])
def test_a_password_is_the_key_whoever_the_user_is(user: str) -> None:
    assert gate().identify(basic(f"{user}:{SECRET}"), "", basic=True).id == "key:abcdefgh"


@pytest.mark.parametrize(
    "credential",
    [
        SECRET,
        f"Token {SECRET}",
        f"Basic {SECRET}",
        basic(SECRET),
        basic(f"user:{SECRET}x"),
        "Basic !!!",
        "Basic QUJ\xaf",  # a header's bytes come as Latin-1
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        f"Bearer {SECRET}\x00",
        f"Bearer {SECRET.upper()}",
        f"Bearer {SECRET}, Bearer {SECRET}",
        f"Bearer {SECRET[:-1]}\u00e4",
    ],
)
def test_what_is_no_key_is_refused_in_the_same_words(credential: str) -> None:
    with pytest.raises(Failure) as caught:
        gate().identify(credential, "", basic=True)
    assert (caught.value.code, caught.value.detail) == (Code.UNAUTHENTICATED, "the key is not valid")


@given(st.text(max_size=80), st.text(max_size=20))
def test_nothing_but_a_failure_comes_of_any_credential(credential: str, project: str) -> None:
    with pytest.raises(Failure):
        gate().identify(credential, project, basic=True)


def test_without_any_credential_a_key_is_asked_for() -> None:
    with pytest.raises(Failure, match="a key is needed"):
        gate().identify("", "")


def test_a_password_opens_nothing_where_passwords_are_not_asked_for() -> None:
    with pytest.raises(Failure, match="not valid"):
        gate().identify(basic(f"user:{SECRET}"), "")


def test_a_keys_own_limit_goes_before_the_installations() -> None:
    admitted = gate(ring(rate_limit=RateLimit(1, 2)))
    slow, other = admitted.identify(f"Bearer {SECRET}", ""), admitted.identify(f"Bearer {OTHER}", "")

    assert [taken(admitted, slow, 1).admitted for _ in range(3)] == [True, True, False]
    assert [taken(admitted, other, 1).admitted for _ in range(4)] == [True, True, True, False]


def test_projects_of_one_key_share_its_bucket() -> None:
    admitted = gate()
    flights, trains = (admitted.identify(f"Bearer {SECRET}", project) for project in ("flights", "trains"))

    assert [taken(admitted, one, 2).admitted for one in (flights, trains)] == [True, False]


def test_a_changed_limit_holds_from_the_next_call_on() -> None:
    held = ring(rate_limit=RateLimit(1, 1))
    admitted = gate(held)
    caller = admitted.identify(f"Bearer {SECRET}", "")
    assert [taken(admitted, caller, 1).admitted for _ in range(2)] == [True, False]

    held.put(ApiKey("abcdefgh", "acme", "", ("*",), NOW, rate_limit=RateLimit(1, 50), generation=2))
    admitted.identify(f"Bearer {SECRET}", "")
    assert taken(admitted, caller, 1).limit == 50


async def test_a_call_over_grpc_is_noted_even_when_it_is_refused() -> None:
    admitted = gate(burst=1.0)
    metadata = {"authorization": f"Bearer {SECRET}", "x-project": "flights", "x-request-id": "r-1"}
    assert (await admitted.admit(GrpcCall("/a/B", metadata)))[1] == "r-1"

    second = GrpcCall("/a/B", metadata | {"x-request-id": "r-2"})
    with pytest.raises(Failure, match="too often") as caught:
        await admitted.admit(second)
    assert second.principal
    assert (second.principal.scope.project, second.request_id) == ("flights", "r-2")
    assert caught.value.retry_after == 1


async def test_a_name_that_is_not_sane_is_replaced() -> None:
    metadata = {"authorization": f"Bearer {SECRET}", "x-request-id": "a b\n"}
    _, named = await gate().admit(GrpcCall("/a/B", metadata))

    assert named
    assert " " not in named


def test_who_was_admitted_is_let_through() -> None:
    admitted = gate()

    enough(taken(admitted, admitted.identify(f"Bearer {SECRET}", ""), 1))
