"""Extractions and cursors as they are kept: by rule, by place, by tenant, in one transaction with their end."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from aimass.v1 import operations_pb2
from aimass.v1.data_events_pb2 import ExtractionEnded
from services.data.database import schema
from services.data.extractions import domain
from services.data.extractions.domain import Counts, Extraction, Task
from services.data.extractions.events import extraction_ended
from services.data.extractions.store import ExtractionStore
from services.data.extractions.wire import extraction_to_wire
from services.data.reading.kinds import Compiled, SqlSource
from services.kit.auth import Scope
from services.kit.errors import Code, Failure, Internal
from services.kit.timestamps import uuid7
from tests.support.house import House, house
from tests.support.refused import code_of

ACME, OTHER = Scope("acme"), Scope("acme", "other")
TASK = Task(SqlSource("sqlite:///a.db", "t", "id"), Compiled((), "SELECT"))
COUNTS = Counts(3, 2, 1, {"after": 3})


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    async with house(home, "data") as running:
        yield running


@pytest.fixture
def store(running: House) -> ExtractionStore:
    database = running.runtime.apps["data"].database
    assert database
    return ExtractionStore(database, extraction_ended, extraction_to_wire)


async def begin(store: ExtractionStore, rule: str = "r", scope: Scope = ACME) -> Extraction:
    def pin(_: Connection, operation: str) -> tuple[Extraction, Task]:
        return Extraction(uuid7(), rule, 1, "s", "d", operation, schema.operations.now()), TASK

    begun, _ = await store.begin(scope, rule, pin, None)
    await schema.tenure.take([begun.operation])  # as who does it has it
    return begun


async def succeed(store: ExtractionStore, run: Extraction, place: str, cursor: Any, scope: Scope = ACME) -> Extraction:
    after = domain.succeeded(run, COUNTS, 0, schema.operations.now())
    await store.succeed_without_news(scope, after, place, cursor, "nothing new")
    return after


async def test_a_run_is_kept_with_what_it_does(store: ExtractionStore) -> None:
    run = await begin(store)
    assert await store.get(ACME, run.extraction) == run
    assert await store.task(ACME, run.extraction) == TASK
    assert (await schema.operations.get(ACME, run.operation)).resource == "rules/r"


async def test_a_rule_has_one_run_at_a_time_and_others_have_theirs(store: ExtractionStore) -> None:
    first = await begin(store)
    for rule, scope in (("r2", ACME), ("r", OTHER), ("r", Scope("umbrella"))):
        await begin(store, rule, scope)
    with pytest.raises(Failure, match=f"the extraction {first.extraction} of r is running") as caught:
        await begin(store)

    assert (caught.value.code, caught.value.retry_after) == (Code.IN_PROGRESS, 1)
    await succeed(store, first, "files", {})
    await begin(store)


async def test_a_refused_run_leaves_no_operation(store: ExtractionStore) -> None:
    await begin(store)
    with pytest.raises(Failure):
        await begin(store)
    assert len((await schema.operations.list(ACME, 10, "")).items) == 1


async def test_unfinished_runs_of_all_tenants_are_found_and_ended_ones_are_not(store: ExtractionStore) -> None:
    ended, failed = await begin(store), await begin(store, "r2")
    open_ = [(scope, await begin(store, "r3", scope)) for scope in (ACME, OTHER, Scope("umbrella"))]
    await succeed(store, ended, "files", {})
    await store.end(ACME, domain.ended(failed, "no", schema.operations.now()), Internal("no"))

    assert sorted(await store.unfinished(), key=str) == sorted(open_, key=str)


async def test_a_cursor_is_of_a_rule_and_a_place(store: ExtractionStore) -> None:
    assert await store.cursor(ACME, "r", "files") is None
    await succeed(store, await begin(store), "files", {"after": 1})
    await succeed(store, await begin(store, "r", OTHER), "files", {"after": 2}, OTHER)

    assert await store.cursor(ACME, "r", "files") == {"after": 1}
    assert await store.cursor(OTHER, "r", "files") == {"after": 2}
    for scope, rule, place in ((ACME, "r2", "files"), (ACME, "r", "sha256:1"), (Scope("umbrella"), "r", "files")):
        assert await store.cursor(scope, rule, place) is None


async def test_a_run_at_another_place_takes_the_cursors_place(store: ExtractionStore) -> None:
    await succeed(store, await begin(store), "files", {"after": 1})
    await succeed(store, await begin(store), "sha256:1", {"after": "x"})
    assert await store.cursor(ACME, "r", "files") is None
    assert await store.cursor(ACME, "r", "sha256:1") == {"after": "x"}


async def test_a_run_that_fails_leaves_the_cursor_where_it_was(store: ExtractionStore, running: House) -> None:
    await succeed(store, await begin(store), "files", {"after": 1})
    failed = domain.ended(await begin(store), "no", schema.operations.now())
    await store.end(ACME, failed, Failure(Code.STORAGE_FULL, "no"))

    assert await store.cursor(ACME, "r", "files") == {"after": 1}
    assert await store.get(ACME, failed.extraction) == failed
    operation = await schema.operations.get(ACME, failed.operation)
    assert (operation.state, operation.error.code) == (operations_pb2.OPERATION_STATE_FAILED, "storage_full")
    assert [told.extraction.error for told in await running.heard(ExtractionEnded, 2)] == ["", "no"]


async def test_a_run_that_has_ended_stays_as_it_is(store: ExtractionStore, running: House) -> None:
    run = await begin(store)
    after = await succeed(store, run, "files", {"after": 1})
    await store.end(ACME, domain.ended(run, "no", schema.operations.now()), Internal("no"))
    with pytest.raises(Failure, match="has ended") as caught:
        await succeed(store, run, "files", {"after": 2})

    assert caught.value.code is Code.CANCELLED
    assert await store.get(ACME, run.extraction) == after
    assert await store.cursor(ACME, "r", "files") == {"after": 1}
    second = await succeed(store, await begin(store), "files", {"after": 3})
    told = [event.extraction.extraction for event in await running.heard(ExtractionEnded, 2)]
    assert told == [run.extraction, second.extraction]


async def test_a_run_that_another_process_has_by_now_is_ended_by_nobody_else(
    store: ExtractionStore, running: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = schema.operations.db
    monkeypatch.setattr(database, "near", False)  # so that there may be another process
    run, leases = await begin(store), schema.tenure._leases
    await database.write(lambda c: leases.take(c, [run.operation], "other", 60, seize=True))
    failed = domain.ended(run, "no", schema.operations.now())

    for late in (succeed(store, run, "files", {"after": 1}), store.end(ACME, failed, Internal("no"))):
        assert await code_of(late) is Code.FENCE_STALE
    assert await store.get(ACME, run.extraction) == run
    assert await store.cursor(ACME, "r", "files") is None


async def test_an_end_and_its_cursor_are_kept_together_or_not_at_all(store: ExtractionStore, running: House) -> None:
    run = await begin(store)
    after = domain.succeeded(run, COUNTS, 1, schema.operations.now())

    def work(connection: Connection) -> None:
        store.succeed(connection, ACME, after, "files", COUNTS.cursor, "3 records")
        raise ValueError("the version could not be added")

    with pytest.raises(ValueError, match="could not be added"):
        await schema.operations.db.run(work)
    assert await store.get(ACME, run.extraction) == run
    assert await store.cursor(ACME, "r", "files") is None
    assert not (await schema.operations.get(ACME, run.operation)).HasField("end_time")


async def test_an_end_says_what_was_done(store: ExtractionStore) -> None:
    after = await succeed(store, await begin(store), "files", {})
    operation = await schema.operations.get(ACME, after.operation)

    assert (operation.stage, operation.message, operation.progress) == ("done", "nothing new", 1.0)
    assert operation.response.type_url.endswith("aimass.v1.Extraction")
    assert operation.response.value == extraction_to_wire(after).SerializeToString()


@pytest.mark.parametrize("call", ["get", "task"])
async def test_what_another_project_runs_is_not_found(store: ExtractionStore, call: str) -> None:
    run = await begin(store)
    for scope in (OTHER, Scope("umbrella")):
        with pytest.raises(Failure, match="there is no extraction") as caught:
            await getattr(store, call)(scope, run.extraction)
        assert caught.value.code is Code.NOT_FOUND


async def test_runs_are_listed_by_rule_in_pages(store: ExtractionStore) -> None:
    made = []
    for rule in ("a", "b", "a", "b", "a"):
        run = await begin(store, rule)
        made.append(await succeed(store, run, "files", {}))
    seen, token = [], ""
    while True:
        page = await store.list(ACME, "a", 2, token)
        seen += [run.extraction for run in page.items]
        if not (token := page.next_token):
            break

    assert seen == [run.extraction for run in reversed(made) if run.rule == "a"]
    assert [run.rule for run in (await store.list(ACME, "", 100, "")).items] == ["a", "b", "a", "b", "a"]
    for scope in (OTHER, Scope("umbrella")):
        assert not (await store.list(scope, "", 100, "")).items
