"""A service of one slice, with a database, and a process that can be frozen: what the kit's tests talk to."""

import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from aimass.v1.operations_pb2_grpc import OperationsStub
from services.kit import contract
from services.kit.auth import Identity, Principal, Scope
from services.kit.channels import RemoteChannel
from services.kit.db import Database
from services.kit.grpc_door import GrpcDoor
from services.kit.local import LocalChannel
from services.kit.member import Instance
from services.kit.operations_api import OperationsApi
from services.kit.rpc import guard
from services.kit.schema import Schema
from tests.support.server import ROOT, free_ports

SCOPE = Scope("acme")
MIGRATION = """
import services.kit.schema as kit
from alembic import op
revision, down_revision, branch_labels, depends_on = "0001", None, None, None
def upgrade(): kit.create_0001(op), kit.create_0002(op)
def downgrade(): kit.drop_0002(op), kit.drop_0001(op)
"""


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity("test", tmp_path / "keys")


@pytest.fixture
async def schema() -> Schema:
    return Schema("data")


@pytest.fixture
async def db(db_url: str, tmp_path: Path, schema: Schema) -> AsyncIterator[Database]:
    database = Database(db_url, migrations(tmp_path))
    await database.start()
    schema.operations.bind(database, now)
    schema.tenure.bind(database, "one")
    yield database
    database.close()


def migrations(folder: Path) -> Path:
    """The kit's own tables as a service has them."""
    made = folder / "migrations"
    made.mkdir(exist_ok=True)
    (made / "0001_kit.py").write_text(MIGRATION)
    return made


@pytest.fixture(params=["in process", "tcp"])
async def operations(
    request: pytest.FixtureRequest, identity: Identity, db: Database, schema: Schema, free_port: int
) -> AsyncIterator[Any]:
    """A stub of the operations behind each transport."""
    api = {"aimass.v1.Operations": OperationsApi(schema.operations)}
    guarded = guard(api, identity, "data", now, schema.keys)
    if request.param == "in process":
        channel = LocalChannel()
        channel.serve(guarded)
        yield OperationsStub(cast(Any, channel))
        return
    door = GrpcDoor(f"127.0.0.1:{free_port}", guarded)
    await door.open()
    remote = RemoteChannel(f"127.0.0.1:{free_port}", "data")
    yield OperationsStub(cast(Any, remote))
    await remote.close()
    await door.close(0)


@pytest.fixture
def admin(identity: Identity) -> Any:
    return as_key(identity, "*")


def as_key(identity: Identity, *permissions: str, scope: Scope = SCOPE) -> tuple[tuple[str, str], ...]:
    """Metadata of a caller with these permissions."""
    return (("authorization", f"Bearer {identity.token('data', Principal(scope, 'key:test', permissions))}"),)


@pytest.fixture
def topic() -> str:
    """A topic of this test's own: a server keeps what other tests have said."""
    return f"aimass.t{uuid.uuid4().hex}.v1"


@pytest.fixture
def only_topic(topic: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, and every event of this test goes there."""
    monkeypatch.setattr(contract, "topic", lambda descriptor: topic)
    return topic


@pytest.fixture
def process() -> Iterator[tuple[Instance, subprocess.Popen[bytes]]]:
    """A process with one instance."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "tests.support.speakers", "frozen", str(port)]
    found = subprocess.Popen(command, cwd=ROOT)
    yield Instance("frozen", f"127.0.0.1:{port}"), found
    found.kill()
    found.wait()
