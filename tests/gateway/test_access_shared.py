"""Several gateways on one database: what one of them revokes, none of them believes any more."""

import asyncio
import base64
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from aimass.v1 import access_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from services.gateway.access.domain import KeyRequest, Signing, Tenant
from services.gateway.access.events import tenant_changed
from services.gateway.access.installation import Given
from services.gateway.access.keeping import Keeping
from services.gateway.access.origin import Origin
from services.gateway.access.service import AccessService
from services.gateway.access.store import AccessStore
from services.gateway.database import open_database
from services.gateway.following import POLL
from services.gateway.roles.domain import Binding, RoleChange
from services.gateway.roles.service import Roles
from services.gateway.roles.store import RoleStore
from services.kit.auth import Principal, Scope
from services.kit.errors import Code, Failure
from tests.gateway.conftest import FAST
from tests.support.house import house, until
from tests.support.servers import Missing, Program, address, database, make

pytestmark = pytest.mark.far
ADMIN = Principal(Scope("default", "default"), "service:test", ("*",))
SECRET = "aim_abcdefgh_" + "x" * 43


def _now() -> datetime:
    return datetime.now(UTC)


class Node:
    """The access of one gateway, with nothing but the database between it and the others."""

    def __init__(self, url: str, home: Path) -> None:
        self.database = open_database(url, home)
        given = Given(bytes(32), SECRET)
        self.roles = Roles(RoleStore(self.database), _now)
        store = AccessStore(self.database)
        self.access = AccessService(store, self.roles, home, _now, random.SystemRandom(), given)
        self.keeping = Keeping(self.access, store, _now)
        self.watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.database.start()
        await self.access.start()
        self.watching = asyncio.create_task(self.access.following.watch())

    async def stop(self) -> None:
        if self.watching:
            self.watching.cancel()
        self.database.close()

    def believes(self, secret: str, address: str = "") -> bool:
        try:
            self.access.keyring.identify(secret, "default", Origin(address))
        except Failure as failure:
            assert failure.code is Code.UNAUTHENTICATED
            return False
        return True

    def may(self, secret: str) -> tuple[str, ...]:
        return self.access.keyring.identify(secret, "default")[1].permissions if self.believes(secret) else ("none",)


async def nodes_at(url: str, folder: Path, count: int) -> list[Node]:
    """Gateways that start at the same time."""
    nodes = [Node(url, folder / f"g{number}") for number in range(count)]
    for number in range(count):
        (folder / f"g{number}").mkdir()
    await asyncio.gather(*(node.start() for node in nodes))
    return nodes


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Node]]:
    nodes = await nodes_at(database(address("postgres")), tmp_path, 3)
    yield nodes
    for node in nodes:
        await node.stop()


async def test_gateways_that_start_together_have_one_first_key(nodes: list[Node]) -> None:
    assert all(node.believes(SECRET) for node in nodes)
    assert len(await nodes[0].access._store.everything()) == 2
    assert len((await nodes[0].access._store.everything())[1]) == 1


async def test_what_a_key_signs_with_is_soon_known_to_all(nodes: list[Node]) -> None:
    wanted = [KeyRequest("", signing=signing) for signing in (Signing(True), Signing(False, bytes(range(32))))]
    for key, _, secret in [await nodes[0].access.create_key(ADMIN, one, None) for one in wanted]:
        await until(lambda prefix=key.api_key: all(node.access.keyring.has(prefix) for node in nodes), 5)  # type: ignore[misc]
        held = [node.access.keyring.signer(key.api_key)[0] for node in nodes]

        assert [one.key.signing for one in held] == [key.signing] * 3
        assert key.signing
        assert bool(secret) is bool(key.signing.sealed) is not bool(key.signing.public_key)


async def test_a_key_of_one_gateway_is_soon_known_to_all(nodes: list[Node]) -> None:
    _, secret, _ = await nodes[0].access.create_key(ADMIN, KeyRequest("", permissions=("models.*",)), None)
    assert nodes[0].believes(secret)

    await until(lambda: all(node.believes(secret) for node in nodes), 5)


async def test_a_repeat_at_another_gateway_sees_the_secret_that_the_first_one_showed(tmp_path: Path) -> None:
    key = base64.b64encode(bytes(32)).decode()
    given = {"AIMASS_GATEWAY_PEPPER": key, "AIMASS_GATEWAY_ADMIN_KEY": SECRET, "AIMASS_SECRETS_KEY": key}
    given |= {"AIMASS_GATEWAY_DATABASE_URL": database(address("postgres"))}
    shown = []
    for number in range(2):
        async with house(tmp_path / f"h{number}", "gateway", **FAST, **given) as running:
            stub = running.stub(AccessStub, "gateway", tenant="default", idempotency_key="k")
            shown.append(await stub.CreateApiKey(access_pb2.CreateApiKeyRequest(display_name="one")))

    assert shown[0].secret
    assert shown[1] == shown[0]


async def test_a_revoked_key_is_refused_by_every_gateway_within_a_second(nodes: list[Node]) -> None:
    took = []
    for turn in range(6):
        key, secret, _ = await nodes[turn % 3].access.create_key(ADMIN, KeyRequest("", permissions=("models.*",)), None)
        await until(partial(_all, nodes, secret, True), 5)
        await asyncio.sleep(random.random() * POLL)
        await nodes[turn % 3].keeping.revoke(ADMIN, key.api_key)
        begun = time.perf_counter()
        await until(partial(_all, nodes, secret, False), 5)
        took.append(time.perf_counter() - begun)

    assert max(took) <= 1.0


async def test_a_rotated_secret_is_soon_known_to_all_and_the_one_before_ends_everywhere(nodes: list[Node]) -> None:
    key, old, _ = await nodes[0].access.create_key(ADMIN, KeyRequest("", permissions=("models.*",)), None)
    await until(partial(_all, nodes, old, True), 5)
    ends = _now() + timedelta(seconds=3)
    new = (await nodes[1].keeping.rotate(ADMIN, key.api_key, ends, None)).secret
    begun = time.perf_counter()
    await until(partial(_all, nodes, new, True), 5)

    assert time.perf_counter() - begun <= 1.0
    assert all(node.believes(old) for node in nodes)
    await nodes[2].keeping.update(ADMIN, key.api_key, KeyRequest("renamed"), {"display_name"}, "*", None)
    assert all(node.believes(new) for node in nodes)
    await asyncio.sleep((ends - _now()).total_seconds())
    assert not any(node.believes(old) for node in nodes)
    assert all(node.believes(new) for node in nodes)


async def test_two_gateways_that_rotate_at_once_leave_one_secret_and_all_know_which(nodes: list[Node]) -> None:
    key, _, _ = await nodes[0].access.create_key(ADMIN, KeyRequest("", permissions=("models.*",)), None)
    await until(lambda: all(node.access.keyring.has(key.api_key) for node in nodes), 5)
    made = await asyncio.gather(*(node.keeping.rotate(ADMIN, key.api_key, None, None) for node in nodes))
    last = max(made, key=lambda one: one.key.generation)

    assert sorted(one.key.generation for one in made) == [2, 3, 4]
    await until(partial(_all, nodes, last.secret, True), 5)
    assert not any(node.believes(one.secret) for node in nodes for one in made if one is not last)


async def test_where_a_key_is_believed_changes_everywhere_within_a_second(nodes: list[Node]) -> None:
    wanted = KeyRequest("", permissions=("models.*",), addresses=("10.0.0.0/8",))
    key, secret, _ = await nodes[0].access.create_key(ADMIN, wanted, None)
    await until(lambda: all(node.believes(secret, "10.1.1.1") for node in nodes), 5)
    assert not any(node.believes(secret, "10.1.1.1.evil") or node.believes(secret, "11.0.0.1") for node in nodes)
    await nodes[1].keeping.update(ADMIN, key.api_key, KeyRequest("", addresses=("::1",)), {"addresses"}, "*", None)
    begun = time.perf_counter()
    await until(lambda: not any(node.believes(secret, "10.1.1.1") for node in nodes), 5)

    assert time.perf_counter() - begun <= 1.0
    assert all(node.believes(secret, "::1") for node in nodes)


async def test_a_role_that_changes_counts_at_every_gateway_within_a_second(nodes: list[Node]) -> None:
    await nodes[0].roles.create(ADMIN, "reader", RoleChange(permissions=("models.get",)), None)
    _, secret, _ = await nodes[0].access.create_key(ADMIN, KeyRequest("", roles=("reader",)), None)
    await until(lambda: all(node.may(secret) == ("models.get",) for node in nodes), 5)

    for number, permissions in enumerate([("jobs.get",), ("models.get", "runs.get"), ("runs.get",)]):
        await nodes[number].roles.update(ADMIN, "reader", RoleChange(permissions=permissions), "*")
        begun = time.perf_counter()
        await until(partial(_may, nodes, secret, permissions), 5)
        assert time.perf_counter() - begun <= 1.0


async def test_a_binding_counts_at_every_gateway_and_ends_there(nodes: list[Node]) -> None:
    key, secret, _ = await nodes[0].access.create_key(ADMIN, KeyRequest("", bindings_only=True), None)
    await nodes[0].roles.create(ADMIN, "getter", RoleChange(permissions=("models.get",)), None)
    await until(lambda: all(node.believes(secret) for node in nodes), 5)
    wanted = Binding("b", "default", "getter", f"key:{key.api_key}", (), ("models/late",), _now())
    await until(lambda: nodes[1].roles.book.role("default", "getter"), 5)
    await nodes[1].roles.bind(ADMIN, wanted, None)

    await until(partial(_may, nodes, secret, ("models.get@models/late",)), 5)
    await nodes[2].roles.unbind(ADMIN, "b", "*")
    await until(partial(_may, nodes, secret, ()), 2)


async def test_a_binding_of_a_group_counts_at_every_gateway_and_ends_there_within_a_second(nodes: list[Node]) -> None:
    nodes[0].access.issued = lambda tenant, who: who == "group:corp:staff"
    await nodes[0].roles.bind(ADMIN, Binding("g", "default", "viewer", "group:corp:staff", (), (), _now()), None)

    def seen(node: Node) -> tuple[str, ...]:
        return node.access.keyring.guest("default", ("user:corp:ann", "group:corp:staff"), (), "lab").permissions

    await until(lambda: all("models.get" in seen(node) for node in nodes), 5)
    turns = [node.access.keyring.settled for node in nodes]
    await nodes[0].roles.unbind(ADMIN, "g", "*")
    begun = time.perf_counter()
    # What a token may is looked at anew once `settled` is another number, which it may also be for the binding's sake.
    await until(lambda: not any(seen(node) for node in nodes), 5)

    assert time.perf_counter() - begun <= 1.0
    assert all(node.access.keyring.settled > turn for node, turn in zip(nodes, turns, strict=True))


async def test_a_closed_tenant_is_refused_by_every_gateway(nodes: list[Node]) -> None:
    await nodes[0].access.create_tenant(ADMIN, "acme", "", None)
    _, secret, _ = await nodes[0].access.create_key(ADMIN, KeyRequest("", tenant="acme", permissions=("*",)), None)
    await until(lambda: all(node.believes(secret) for node in nodes), 5)

    await nodes[1].access.delete_tenant(ADMIN, "acme", "*")
    await until(lambda: not any(node.believes(secret) for node in nodes), 2)


async def test_a_new_key_works_at_once_and_goes_on_working(nodes: list[Node]) -> None:
    secrets = []
    for _ in range(40):
        secrets.append((await nodes[0].access.create_key(ADMIN, KeyRequest("", permissions=("*",)), None)).secret)
        assert all(nodes[0].believes(secret) for secret in secrets)


@pytest.fixture
def server() -> Iterator[Program]:
    """A PostgreSQL of the test's own, which it may kill."""
    address("postgres")
    with tempfile.TemporaryDirectory(prefix="aimass-far-") as folder:
        try:
            program = make("postgres", Path(folder) / "server").start()
        except Missing as missing:
            pytest.skip(str(missing))
        yield program
        program.stop()


async def test_while_the_database_is_away_known_keys_work_and_afterwards_changes_are_seen(
    tmp_path: Path, server: Program
) -> None:
    nodes = await nodes_at(server.address, tmp_path, 2)
    key, secret, _ = await nodes[0].access.create_key(ADMIN, KeyRequest("", permissions=("*",)), None)
    await until(lambda: nodes[1].believes(secret), 5)

    server.kill()
    await asyncio.sleep(2 * POLL)
    assert all(node.believes(secret) for node in nodes)
    server.start()
    await until(lambda: _revoked(nodes[0], key.api_key), 20)
    await until(lambda: not nodes[1].believes(secret), 10)
    for node in nodes:
        await node.stop()


def _may(nodes: list[Node], secret: str, permissions: tuple[str, ...]) -> bool:
    return all(node.may(secret) == permissions for node in nodes)


def _all(nodes: list[Node], secret: str, believed: bool) -> bool:
    return all(node.believes(secret) is believed for node in nodes)


async def _revoked(node: Node, prefix: str) -> bool:
    try:
        await node.keeping.revoke(ADMIN, prefix)
    except Failure:
        return False
    return True


async def test_a_tenant_of_one_gateway_is_soon_known_to_all_by_looking_for_it_alone(nodes: list[Node]) -> None:
    await asyncio.sleep(2 * POLL)  # all have looked for the first time, when everything is read
    asked = [node.access._store for node in nodes]
    for store in asked:
        store.everything = None  # type: ignore[method-assign,assignment]
    await nodes[0].access.create_tenant(ADMIN, "acme", "", None)
    assert nodes[0].access.keyring.has_tenant("acme")

    await until(lambda: all(node.access.keyring.has_tenant("acme") for node in nodes), 5)


async def test_a_tenant_made_by_a_clock_that_is_behind_is_known_as_well(nodes: list[Node]) -> None:
    await asyncio.sleep(2 * POLL)
    old = Tenant("acme", "", _now() - timedelta(days=1))
    await nodes[0].access._store.create_tenant(old, lambda tenant: tenant_changed(tenant, _now()), None)

    await until(lambda: all(node.access.keyring.has_tenant("acme") for node in nodes), 5)


async def test_a_tenant_that_is_closed_by_one_gateway_is_soon_closed_for_all(nodes: list[Node]) -> None:
    await nodes[0].access.create_tenant(ADMIN, "acme", "", None)
    await until(lambda: all(node.access.keyring.has_tenant("acme") for node in nodes), 5)
    await nodes[1].access.delete_tenant(ADMIN, "acme", "*")

    begun = time.perf_counter()
    await until(lambda: not any(node.access.keyring.has_tenant("acme") for node in nodes), 5)
    assert time.perf_counter() - begun <= 1.0


async def test_what_an_event_tells_is_read_only_where_it_is_not_known(nodes: list[Node]) -> None:
    await nodes[0].access.create_tenant(ADMIN, "acme", "", None)
    key, secret, _ = await nodes[0].access.create_key(ADMIN, KeyRequest("", tenant="acme"), None)
    nodes[0].access.following._store = None  # type: ignore[assignment]
    await nodes[0].access.following.heard_of_tenant("acme", 1)
    await nodes[0].access.following.heard_of_key(key.api_key, 1)

    await nodes[1].access.following.heard_of_tenant("acme", 1)
    assert nodes[1].access.keyring.has_tenant("acme")
    await nodes[1].access.following.heard_of_key(key.api_key, 1)
    assert nodes[1].believes(secret)
