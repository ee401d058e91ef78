import asyncio
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from aimass.v1.access_pb2 import GetTenantRequest, Tenant
from services.kit.db import Database, Replay
from services.kit.errors import Code, FailedPrecondition, Failure
from services.kit.idempotency import Keyed
from services.kit.schema import Schema
from services.kit.secrets import Vault
from tests.kit.conftest import now


def keyed(schema: Schema, key: str = "k", name: str = "a", who: str = "ann", at: datetime | None = None) -> Keyed:
    return schema.keys.once(who, key, GetTenantRequest(tenant=name), at or now(), lambda found: Tenant(tenant=found))


async def test_the_second_call_gets_the_first_answer(db: Database, schema: Schema) -> None:
    effects: list[int] = []

    def work(connection: Connection) -> str:
        effects.append(1)
        return "made"

    await db.run(work, keyed(schema))
    with pytest.raises(Replay) as replay:
        await db.run(work, keyed(schema))

    assert Tenant.FromString(replay.value.reply).tenant == "made"
    assert len(effects) == 1


async def test_a_failed_effect_frees_its_key(db: Database, schema: Schema) -> None:
    def fail(connection: Connection) -> str:
        raise Failure(Code.UNAVAILABLE, "not now")

    with pytest.raises(Failure):
        await db.run(fail, keyed(schema))
    assert await db.run(lambda connection: "made", keyed(schema)) == "made"


async def test_a_key_means_one_request(db: Database, schema: Schema) -> None:
    await db.run(lambda connection: "made", keyed(schema))

    with pytest.raises(Failure) as caught:
        await db.run(lambda connection: "made", keyed(schema, name="b"))
    assert caught.value.code is Code.KEY_REUSED


async def test_callers_do_not_share_keys(db: Database, schema: Schema) -> None:
    await db.run(lambda connection: "made", keyed(schema))

    assert await db.run(lambda connection: "made", keyed(schema, who="bob")) == "made"


async def test_an_answer_with_a_secret_opens_for_its_own_key_only(db: Database, schema: Schema, tmp_path: Path) -> None:
    table = schema.keys.sealing(Vault(tmp_path))

    def shown(key: str) -> Keyed:
        return table.once("ann", key, GetTenantRequest(tenant="a"), now(), lambda found: Tenant(tenant=found), True)

    for key in ("k", "l"):
        await db.run(lambda connection: "whsec_1", shown(key))
    with pytest.raises(Replay) as replay:
        await db.recall(shown("k"))
    rows = await db.read(lambda connection: connection.execute(select(table.table)).all())
    assert Tenant.FromString(replay.value.reply).tenant == "whsec_1"
    assert not [row for row in rows if b"whsec_1" in row.reply]
    swap = update(table.table).values(reply=rows[1].reply)
    await db.run(lambda connection: connection.execute(swap) and None)
    with pytest.raises(FailedPrecondition, match="cannot be shown again"):
        await db.recall(shown("k" if rows[1].scope == shown("l")._scope else "l"))


async def test_an_answer_that_another_secrets_key_sealed_is_no_bug(
    db: Database, schema: Schema, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def shown(home: str) -> Keyed:
        table = schema.keys.sealing(Vault(tmp_path / home))
        return table.once("ann", "k", GetTenantRequest(), now(), lambda found: Tenant(tenant=found), True)

    await db.run(lambda connection: "whsec_1", shown("one"))
    with pytest.raises(FailedPrecondition, match="had its effect"):
        await db.recall(shown("other"))
    assert "AIMASS_SECRETS_KEY" in caplog.text


async def test_an_answer_with_a_secret_is_kept_by_nobody_without_a_vault(schema: Schema) -> None:
    with pytest.raises(RuntimeError, match="needs a vault"):
        schema.keys.once("ann", "k", GetTenantRequest(), now(), lambda found: Tenant(tenant=found), secret=True)


async def test_a_key_is_forgotten_after_a_day(db: Database, schema: Schema) -> None:
    await db.run(lambda connection: "made", keyed(schema))

    later = now() + timedelta(hours=25)
    assert await db.run(lambda connection: "again", keyed(schema, at=later)) == "again"


@pytest.mark.parametrize("way", ["run", "write"])
@pytest.mark.parametrize("age", [timedelta(), timedelta(hours=25)], ids=["new", "over"])
async def test_a_crowd_with_one_key_has_one_effect(db: Database, schema: Schema, way: str, age: timedelta) -> None:
    effects: list[int] = []
    do, later = getattr(db, way), now() + age
    if age:
        await db.run(lambda connection: "old", keyed(schema))

    def work(connection: Connection) -> str:
        effects.append(1)
        return "made"

    schema.keys._pruned = time.monotonic()  # those whose time is over are there
    answers = await asyncio.gather(*(do(work, keyed(schema, at=later)) for _ in range(100)), return_exceptions=True)

    assert answers.count("made") == 1
    assert len(effects) == 1 or way == "run"  # which is tried again where others were quicker
    assert sum(isinstance(answer, Replay) for answer in answers) == 99
