from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.access.domain import (
    ApiKey,
    KeyRequest,
    RateLimit,
    digest,
    grant,
    last_administrator,
    prefix_of,
)
from services.gateway.roles.domain import covers
from services.kit.auth import grants
from services.kit.errors import Failure

NOW = datetime(2026, 1, 1, tzinfo=UTC)
patterns = st.sampled_from(["*", "models.*", "models.get", "models.delete", "jobs.*", "jobs.get", "modelsx.get"])
permissions = st.sampled_from(
    ["models.get", "models.delete", "jobs.get", "jobs.cancel", "modelsx.get", "tenants.create"]
)


def key(*held: str, tenant: str = "acme", **more: object) -> ApiKey:
    return replace(ApiKey("abcdefgh", tenant, "", held or ("*",), NOW), **more)  # type: ignore[arg-type]


@given(st.lists(patterns, max_size=3), patterns, permissions)
def test_a_pattern_that_is_covered_grants_nothing_more(held: list[str], wanted: str, permission: str) -> None:
    if covers(held, wanted) and grants(wanted, permission):
        assert any(grants(pattern, permission) for pattern in held)


@given(st.lists(patterns, min_size=1, max_size=3), st.lists(patterns, max_size=3), permissions)
def test_no_chain_of_keys_gains_a_permission(held: list[str], wanted: list[str], permission: str) -> None:
    maker = key(*held)
    try:
        made = grant(maker, KeyRequest("", permissions=tuple(wanted)), "ijklmnop", NOW)
    except Failure as failure:
        assert failure.code.text == "forbidden"
        return
    if any(grants(pattern, permission) for pattern in made.permissions):
        assert any(grants(pattern, permission) for pattern in maker.permissions)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_digest_depends_on_the_pepper(one: bytes, other: bytes) -> None:
    secret = "aim_abcdefgh_" + "x" * 43

    assert (digest(one, secret) == digest(other, secret)) == (one == other)
    assert len(digest(one, secret)) == 32


@pytest.mark.parametrize(
    "secret",
    ["", "aim_", "aim_abcdefgh_short", "aim_ABCDEFGH_" + "x" * 43, "x" * 56, "aim_abcdefgh_" + "x" * 43 + "\n"],
)
def test_what_is_no_key_has_no_prefix(secret: str) -> None:
    assert prefix_of(secret) == ""


def test_a_secret_may_have_an_underscore() -> None:
    assert prefix_of("aim_abcdefgh_" + "_" * 43) == "abcdefgh"


def test_a_key_works_until_it_ends_or_is_revoked() -> None:
    ending = key(expire_time=NOW)

    assert key().works(NOW)
    assert not ending.works(NOW)
    assert ending.works(NOW - timedelta(seconds=1))
    assert not key(revoke_time=NOW).works(NOW)


def test_stars_of_the_installations_tenants_administer() -> None:
    assert key(tenant="default").administers
    assert key(tenant="system").administers
    assert not key(tenant="acme").administers
    assert not key("tenants.*", tenant="default").administers


def test_the_last_that_administers_is_known() -> None:
    first, second = key(tenant="default"), key(tenant="system", api_key="ijklmnop")

    assert last_administrator([first, key()], "abcdefgh", NOW)
    assert not last_administrator([first, second], "abcdefgh", NOW)
    assert last_administrator([first, replace(second, revoke_time=NOW)], "abcdefgh", NOW)


def test_a_key_for_another_tenant_has_that_tenants_projects() -> None:
    made = grant(key(tenant="default"), KeyRequest("", tenant="acme"), "ijklmnop", NOW)

    assert (made.tenant, made.projects, made.permissions) == ("acme", (), ("*",))


def test_a_key_is_no_faster_than_its_maker() -> None:
    maker = key(rate_limit=RateLimit(10, 20))

    assert grant(maker, KeyRequest(""), "ijklmnop", NOW).rate_limit == RateLimit(10, 20)
    assert grant(maker, KeyRequest("", rate_limit=RateLimit(1, 2)), "ijklmnop", NOW).rate_limit == RateLimit(1, 2)
    with pytest.raises(Failure, match="faster"):
        grant(maker, KeyRequest("", rate_limit=RateLimit(10, 21)), "ijklmnop", NOW)
