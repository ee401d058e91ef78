"""How many bindings a principal has is decided where they are written, whoever writes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.gateway.database import open_database
from services.gateway.roles import events
from services.gateway.roles.domain import Binding, bound_again, unbound
from services.gateway.roles.store import MOST, RoleStore
from services.kit import tenancy
from services.kit.errors import Code, Failure

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def binding(name: str, principal: str = "user:corp:ann", tenant: str = "acme") -> Binding:
    return Binding(name, tenant, "viewer", principal, (), (), NOW)


async def create(store: RoleStore, wanted: Binding) -> str:
    try:
        with tenancy.of(wanted.tenant):
            await store.create_binding(wanted, events.binding_changed(wanted, NOW), None)
    except Failure as failure:
        return failure.code.text
    return "made"


@pytest.fixture
async def stores(tmp_path: Path, db_url: str) -> AsyncIterator[list[RoleStore]]:
    """Those of two gateways: on PostgreSQL each has connections of its own, on SQLite there is one for the file."""
    count = 1 if db_url.startswith("sqlite") else 2
    databases = [open_database(db_url, tmp_path) for _ in range(count)]
    for database in databases:
        await database.start()
    yield [RoleStore(databases[number % count]) for number in range(2)]
    for database in databases:
        database.close()


async def test_gateways_that_bind_at_the_same_time_come_to_fifty(stores: list[RoleStore]) -> None:
    before = [await create(stores[0], binding(f"b{number}")) for number in range(MOST - 3)]
    at_once = await asyncio.gather(*(create(stores[n % 2], binding(f"c{n}")) for n in range(12)))

    assert set(before) == {"made"}
    assert sorted(at_once) == [Code.LIMIT_EXCEEDED.text] * 9 + ["made"] * 3
    assert await create(stores[0], binding("d", "user:corp:bob")) == "made"
    assert await create(stores[0], binding("d", tenant="other")) == "made"


async def test_a_binding_that_comes_back_counts_among_the_fifty(stores: list[RoleStore]) -> None:
    for number in range(MOST):
        assert await create(stores[0], binding(f"b{number}")) == "made"
    with tenancy.of("acme"):
        await stores[0].change_binding("acme", "b0", NOW, lambda b: unbound(b, "*", NOW), events.binding_changed)
    assert await create(stores[1], binding("late")) == "made"
    with pytest.raises(Failure) as caught, tenancy.of("acme"):
        await stores[1].change_binding("acme", "b0", NOW, bound_again, events.binding_changed)

    assert caught.value.code is Code.LIMIT_EXCEEDED


async def test_long_names_of_subjects_are_kept(stores: list[RoleStore]) -> None:
    who = f"user:{'i' * 63}:{'s' * 255}"
    assert await create(stores[0], binding("long", who)) == "made"

    with tenancy.of("acme"):
        assert (await stores[1].binding("acme", "long")).principal == who
