"""Rows of a database in files and back: every value, the counters, and who may see what."""

import io
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from services.kit.bus import Event
from services.kit.db import Database
from services.kit.errors import Failure
from services.kit.schema import Schema
from services.kit.stack import copy_postgresql as copy
from services.kit.tenancy import EVERYBODY
from services.kit.tenancy import of as as_tenant
from tests.kit.conftest import migrations, now
from tests.support.servers import address, database

pytestmark = pytest.mark.far
ODD = "tab\t, line\n, back\\slash, \\N, 'quote', \"two\", Zürich"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return migrations(tmp_path)


async def started(url: str, folder: Path) -> Database:
    made = Database(url, folder)
    await made.start()
    return made


async def written(url: str, folder: Path) -> None:
    """Three events of which one has left, an operation of a tenant, and a lease."""
    schema, db = Schema("data"), await started(url, folder)
    events = [Event("t", f"key-{n}", bytes(range(256)), {"ce_id": str(n), "odd": ODD}) for n in range(3)]
    row: dict[str, Any] = {
        "tenant": "acme",
        "project": "default",
        "operation": ODD[:60],
        "state": "x",
        "method": "m",
        "resource": "r",
    }
    row |= {
        "method": "m",
        "resource": "r",
        "progress": 0.1 + 0.2,
        "stage": "",
        "message": ODD,
        "cancel_requested": False,
    }
    row |= {"create_time": now(), "update_time": now()}

    def fill(connection: Connection) -> None:
        schema.outbox.add(connection, events)
        connection.execute(text("DELETE FROM outbox WHERE id = (SELECT max(id) FROM outbox)"))
        connection.execute(schema.operations.table.insert(), row)
        schema.tenure._leases.take(connection, ["work"], "somebody", 3600)

    with as_tenant(EVERYBODY):
        await db.run(fill)
    db.close()


def dumped(url: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    with copy.session(url, "REPEATABLE READ") as connection:
        tables, rows = copy.tables(connection), {}
        for table, columns in tables.items():
            copy.dump(connection, table, columns, out := io.BytesIO())
            rows[table] = out.getvalue()
        description = {"revision": copy.revision(connection), "tables": tables, "counters": copy.counters(connection)}
        return description, rows


def filled(url: str, folder: Path, description: dict[str, Any], rows: dict[str, bytes]) -> None:
    with copy.session(url, "READ COMMITTED") as connection:
        filling = copy.Filling(connection, folder, description)
        filling.check()
        filling.fill(lambda table: [rows[table]], "sha256:archive")
        connection.commit()


async def test_every_row_comes_back_as_it_was(folder: Path) -> None:
    first, second = database(address("postgres")), database(address("postgres"))
    await written(first, folder)
    description, rows = dumped(first)
    filled(second, folder, description, rows)

    again, back = dumped(second)
    assert {**back, "lease": b""} == {**rows, "lease": b""}
    assert again == description


async def test_numbers_go_on_behind_those_that_were_given(folder: Path) -> None:
    first, second = database(address("postgres")), database(address("postgres"))
    await written(first, folder)
    filled(second, folder, *dumped(first))
    schema, db = Schema("data"), await started(second, folder)
    await db.run(lambda c: schema.outbox.add(c, [Event("t", "k", b"", {})]))

    assert await db.read(lambda c: c.execute(text("SELECT max(id) FROM outbox")).scalar()) == 4
    db.close()


async def test_a_tenant_sees_no_more_than_before(folder: Path) -> None:
    first, second = database(address("postgres")), database(address("postgres"))
    await written(first, folder)
    filled(second, folder, *dumped(first))
    db, seen = await started(second, folder), {}
    for tenant in ("acme", "other"):
        with as_tenant(tenant):
            seen[tenant] = await db.read(lambda c: c.execute(text("SELECT count(*) FROM operation")).scalar())
    db.close()

    assert seen == {"acme": 1, "other": 0}


async def test_what_the_dead_held_is_free_and_its_fence_goes_on(folder: Path) -> None:
    first, second = database(address("postgres")), database(address("postgres"))
    await written(first, folder)
    filled(second, folder, *dumped(first))
    schema, db = Schema("data"), await started(second, folder)

    assert await db.run(lambda c: schema.tenure._leases.take(c, ["work"], "me", 5)) == {"work": 2}
    db.close()


async def test_a_database_with_rows_is_not_filled(folder: Path) -> None:
    first = database(address("postgres"))
    await written(first, folder)

    with pytest.raises(Failure, match="is not empty: there are rows in operation"):
        filled(first, folder, *dumped(first))


async def test_one_that_services_have_prepared_is_filled(folder: Path) -> None:
    first, second = database(address("postgres")), database(address("postgres"))
    await written(first, folder)
    (await started(second, folder)).close()
    description, rows = dumped(first)
    filled(second, folder, description, rows)

    assert dumped(second)[1]["outbox"] == rows["outbox"]


async def test_an_older_archive_is_brought_up_and_a_newer_one_refused(folder: Path) -> None:
    first, second, third = (database(address("postgres")) for _ in range(3))
    await written(first, folder)
    description, rows = dumped(first)
    (folder / "0002_more.py").write_text(
        'from alembic import op\nrevision, down_revision, branch_labels, depends_on = "0002", "0001", None, None\n'
        'def upgrade(): op.execute("CREATE TABLE more (tenant text)")\ndef downgrade(): op.drop_table("more")\n'
    )
    filled(second, folder, description, rows)

    assert dumped(second)[0]["revision"] == "0002"
    with pytest.raises(Failure, match="needs a newer release"):
        filled(third, folder, {**description, "revision": "0009"}, rows)


async def test_a_load_that_fails_leaves_nothing(folder: Path) -> None:
    first, second = database(address("postgres")), database(address("postgres"))
    await written(first, folder)
    description, rows = dumped(first)
    with pytest.raises(Failure, match="a database cannot be used"):
        filled(second, folder, description, {**rows, "outbox": b"no number\n"})

    filled(second, folder, description, rows)
    with copy.session(second, "READ COMMITTED") as connection:
        assert copy.restored_from(connection) == "sha256:archive"
        copy.forget_restore(connection)
        assert not copy.restored_from(connection)
