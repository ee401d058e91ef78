"""A service that is started twice in one process: its tables are the same objects, its event loop is another."""

import asyncio
from functools import partial
from pathlib import Path

from sqlalchemy.engine import Connection

from aimass.v1 import operations_pb2 as pb
from services.kit.blobs import FolderBlobs
from services.kit.bus import Event, NearBus
from services.kit.db import Database
from services.kit.errors import Code, Failure
from services.kit.relay import Relay
from services.kit.schema import Schema
from tests.kit.conftest import MIGRATION, SCOPE, now


def test_watchers_and_the_relay_work_in_a_second_event_loop(tmp_path: Path) -> None:
    schema = Schema("data")
    (tmp_path / "0001_kit.py").write_text(MIGRATION)

    async def once() -> int:
        db, bus = Database(f"sqlite:///{tmp_path}/data.db", tmp_path), NearBus(tmp_path / "bus.db")
        await db.start()
        await bus.start()
        schema.operations.bind(db, now)
        schema.tenure.bind(db, "one")
        relay = asyncio.create_task(Relay(schema.outbox, schema.tenure, db, bus).run())
        made = await db.run(lambda c: schema.operations.create(c, SCOPE, "m", "r"))
        watching = asyncio.create_task(last(schema, made.operation))
        await asyncio.sleep(0.05)
        event = Event.of(made, SCOPE, "operations", made.operation, "test", now())
        await db.run(partial(finish, schema, made.operation, event))
        await schema.operations.tell()
        await asyncio.wait_for((await bus.reader([event.topic], "g")).poll(1), 5)
        relay.cancel()
        state = await asyncio.wait_for(watching, 5)
        db.close()
        await bus.close()
        return state

    assert [asyncio.run(once()), asyncio.run(once())] == [int(pb.OPERATION_STATE_SUCCEEDED)] * 2


def finish(schema: Schema, operation: str, event: Event, connection: Connection) -> None:
    schema.operations.end(connection, SCOPE, operation)
    schema.outbox.add(connection, [event])


async def last(schema: Schema, operation: str) -> int:
    states = [change.state async for change in schema.operations.changes(SCOPE, operation)]
    return int(states[-1])


async def test_reading_from_before_the_beginning_is_a_wrong_offset(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    digest = await blobs.put("acme", b"0123")
    try:
        [piece async for piece in blobs.read("acme", digest, -1)]
    except Failure as failure:
        assert (failure.code, failure.committed_size) == (Code.WRONG_OFFSET, 4)
    else:
        raise AssertionError("it was read")
    finally:
        blobs.close()
