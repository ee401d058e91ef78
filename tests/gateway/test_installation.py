"""Several gateways on one database: one first key, and every gateway verifies every key."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest

from services.gateway.access.domain import KeyRequest
from services.gateway.access.installation import Given
from services.gateway.access.service import AccessService
from services.gateway.access.store import AccessStore
from services.gateway.database import open_database, schema
from services.gateway.roles.domain import Binding
from services.gateway.roles.service import Roles
from services.gateway.roles.store import RoleStore
from services.kit.config import ConfigError
from services.kit.db import Database
from services.kit.errors import Unauthenticated, Unavailable
from tests.gateway.conftest import gateway_at
from tests.support.servers import address, database

PEPPER = "A" * 43 + "="
KEY = "aim_abcdefgh_" + "x" * 43


def access(db: Database, home: Path, given: Given) -> AccessService:
    """The access of a gateway with a home of its own."""

    def now() -> datetime:
        return datetime.now(UTC)

    roles = Roles(RoleStore(db), now)
    return AccessService(AccessStore(db), roles, home, now, random.SystemRandom(), given)


@pytest.fixture(params=["near", pytest.param("far", marks=pytest.mark.far)])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = database(address("postgres")) if request.param == "far" else ""
    found = open_database(url, tmp_path)
    await found.start()
    assert "api_key" in schema.metadata.tables
    yield found
    found.close()


async def test_of_gateways_that_begin_at_once_one_makes_the_first_key(db: Database, tmp_path: Path) -> None:
    given = Given.of(PEPPER, "")
    found = [access(db, tmp_path / str(number), given) for number in range(4)]
    await asyncio.gather(*(one.start() for one in found))
    keys = list(tmp_path.glob("*/admin-key"))

    assert len(keys) == 1
    assert all(one.keyring.identify(keys[0].read_text().strip(), "default") for one in found)


async def test_a_key_of_one_gateway_works_at_another(db: Database, tmp_path: Path) -> None:
    given = Given.of(PEPPER, KEY)
    one, other = (access(db, tmp_path / name, given) for name in ("one", "other"))
    await one.start()
    await other.start()
    _, administrator = one.keyring.identify(KEY, "default")
    wanted = KeyRequest(display_name="a key", permissions=("models.get",))
    secret = (await one.create_key(administrator, wanted, None)).secret
    await other.following.reload()

    assert other.keyring.identify(secret, "default")[1].permissions == ("models.get",)
    assert not list(tmp_path.glob("*/admin-key")), "what was given is not written down"


class Broken(AccessStore):
    """A database that is away when the keys are read."""

    async def everything(self) -> NoReturn:
        raise Unavailable("the database is away")


async def test_what_somebody_may_changes_when_the_ring_says_so_and_not_before(db: Database, tmp_path: Path) -> None:
    given = Given.of(PEPPER, KEY)
    one, other = (access(db, tmp_path / name, given) for name in ("one", "other"))
    await one.start()
    await other.start()
    one.issued = lambda tenant, who: who == "group:corp:staff"
    wanted = Binding("g", "default", "viewer", "group:corp:staff", (), (), datetime.now(UTC))
    await one._roles.bind(one.keyring.identify(KEY, "default")[1], wanted, None)

    def seen() -> tuple[bool, int]:
        guest = other.keyring.guest("default", ("user:corp:ann", "group:corp:staff"), (), "default")
        return "models.get" in guest.permissions, other.keyring.settled

    before, whole = seen(), other.following._store
    other.following._store = Broken(db)
    await other.following.reload()
    assert seen() == before

    other.following._store = whole
    await other.following.reload()
    assert seen() == (True, before[1] + 1)


async def test_gateways_with_another_pepper_believe_nothing(db: Database, tmp_path: Path) -> None:
    await access(db, tmp_path, Given.of(PEPPER, KEY)).start()
    other = access(db, tmp_path, Given.of("B" * 43 + "=", KEY))
    await other.start()

    with pytest.raises(Unauthenticated):
        other.keyring.identify(KEY, "default")


@pytest.mark.parametrize(
    ("pepper", "key", "says"),
    [
        ("short", "", "AIMASS_GATEWAY_PEPPER: must be 32 bytes as base64"),
        ("", "secret", "AIMASS_GATEWAY_ADMIN_KEY: must be aim_"),
    ],
)
def test_what_is_no_pepper_or_key_stops_the_start(pepper: str, key: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Given.of(pepper, key)


async def test_a_gateway_takes_its_secrets_from_the_settings(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    env = {"AIMASS_GATEWAY_PEPPER": PEPPER, "AIMASS_GATEWAY_ADMIN_KEY_FILE": str(tmp_path / "key")}
    async with gateway_at(tmp_path / "home", **env) as running, running.client(KEY) as client:
        answer = await client.get("/v1/whoami")

    assert answer.status_code == 200
    assert not (tmp_path / "home/admin-key").exists()
    assert not (tmp_path / "home/keys/pepper").exists()
