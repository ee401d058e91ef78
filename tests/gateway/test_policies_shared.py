"""Several gateways on one database: policies that one activates count at all of them, and for their tenant only."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy

from services.gateway.access.keyring import Keyring
from services.gateway.database import open_database
from services.gateway.policies import guard
from services.gateway.policies.domain.rules import Effect, Facts, Rule, What
from services.gateway.policies.recorder import Recorder
from services.gateway.policies.service import Policies, Wanted
from services.gateway.policies.store.decisions import DecisionStore
from services.gateway.policies.store.versions import PolicyStore
from services.kit import tenancy
from services.kit.auth import Principal, Scope
from services.kit.errors import NotFound
from tests.support.house import until
from tests.support.servers import address, database

pytestmark = pytest.mark.far
ACME, OTHER = (Principal(Scope(name), "key:test", ("*",)) for name in ("acme", "other"))
RULE = Rule("no-promotion", Effect.DENY, what=What(permissions=("versions.promote",)))


class Node:
    """The policies of one gateway, with nothing but the database between it and the others."""

    def __init__(self, url: str, home: Path) -> None:
        home.mkdir()
        self.database = open_database(url, home)
        now = lambda: datetime.now(UTC)  # noqa: E731
        ring = Keyring(b"", now)
        decisions = DecisionStore(self.database)
        self.recorder = Recorder(decisions)
        self.policies = Policies(PolicyStore(self.database), decisions, self.recorder, lambda: ring, guard.kinds, now)

    async def start(self) -> None:
        await self.database.start()
        await self.policies.load()
        self.watching = asyncio.create_task(self.policies.following.watch())

    async def stop(self) -> None:
        self.watching.cancel()
        self.database.close()

    def counts(self, tenant: str) -> int:
        found = self.policies.guards.get(tenant) if tenant in self.policies._ruled else None
        return found.compiled.version if found else 0


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Node]]:
    url = database(address("postgres"))
    nodes = [Node(url, tmp_path / f"g{number}") for number in range(2)]
    for node in nodes:
        await node.start()
    yield nodes
    for node in nodes:
        await node.stop()


async def made(node: Node, caller: Principal, *rules: Rule) -> int:
    with tenancy.of(caller.scope.tenant):
        version = (await node.policies.create(caller, Wanted("", rules, ()), None)).version
        await node.policies.test(caller, version, 0, "")
        return version


async def test_what_one_activates_counts_at_the_other_within_a_second(nodes: list[Node]) -> None:
    one, two = await made(nodes[0], ACME, RULE), await made(nodes[1], ACME, RULE)
    empty = await made(nodes[0], ACME)
    took = []
    for turn, (number, seen) in enumerate([(one, one), (two, two), (empty, 0), (one, one)]):
        with tenancy.of("acme"):
            await nodes[turn % 2].policies.activate(ACME, number, "")
        assert nodes[turn % 2].counts("acme") == seen
        begun = time.perf_counter()
        await until(lambda seen=seen: all(node.counts("acme") == seen for node in nodes), 5)  # type: ignore[misc]
        took.append(time.perf_counter() - begun)

    assert (one, two, empty) == (1, 2, 3)
    assert max(took) <= 1.0


async def test_a_database_that_is_away_changes_nothing(nodes: list[Node]) -> None:
    with tenancy.of("acme"):
        await nodes[0].policies.activate(ACME, await made(nodes[0], ACME, RULE), "")
    await until(lambda: nodes[1].counts("acme") == 1, 5)
    nodes[1].database.close()
    await asyncio.sleep(1.2)

    assert not nodes[1].watching.done()
    assert nodes[1].counts("acme") == 1


async def test_two_activations_at_once_both_count_one_after_the_other(nodes: list[Node]) -> None:
    numbers = [await made(nodes[0], ACME, RULE) for _ in range(2)]
    with tenancy.of("acme"):
        found = await asyncio.gather(*(n.policies.activate(ACME, v, "") for n, v in zip(nodes, numbers, strict=True)))

    assert sorted(active.generation for active in found) == [1, 2]
    last = max(found, key=lambda active: active.generation)
    await until(lambda: all(node.counts("acme") == last.version for node in nodes), 5)


async def test_a_tenant_sees_no_policies_of_another(nodes: list[Node]) -> None:
    number = await made(nodes[0], ACME, RULE)
    with tenancy.of("other"):
        with pytest.raises(NotFound):
            await nodes[0].policies.version(OTHER, number)
        with pytest.raises(NotFound):
            await nodes[0].policies.version(ACME, number)  # the rows themselves are not there for another tenant
        counted = await nodes[0].database.read(
            lambda connection: connection.execute(sqlalchemy.text("SELECT count(*) FROM policy_version")).scalar_one()
        )

    assert counted == 0


async def test_decisions_of_all_gateways_are_one_sample_and_each_tenants_own(nodes: list[Node]) -> None:
    for number, node in enumerate(nodes):
        for tenant in ("acme", "other")[: number + 1]:
            node.recorder.take(tenant, Facts(f"key:k{number}", "models.get", datetime.now(UTC)), "", 0)
        await node.recorder.write()
    with tenancy.of("acme"):
        mine = await nodes[0].policies.decisions(ACME, 0, "")
        theirs = await nodes[0].policies.decisions(OTHER, 0, "")  # no row of another tenant is there

    assert [one.facts.principal for one in mine.items] == ["key:k1", "key:k0"]
    assert not theirs.items
