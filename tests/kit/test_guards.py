"""What stands in front of every method: repeats, etags, audiences, deadlines, and what leaves when it breaks."""

import asyncio
import logging
from typing import Any

import pytest

from services.kit.auth import Identity, Scope
from services.kit.db import Database
from services.kit.errors import Code, Failure
from services.kit.idempotency import LIFETIME
from services.kit.rpc import REPLAYED
from services.kit.schema import Schema
from tests.kit.conftest import now
from tests.kit.ledger import Ledger
from tests.support.refused import code_of


@pytest.fixture
async def ledger(db: Database, schema: Schema, identity: Identity) -> Ledger:
    return Ledger(db, schema, identity)


async def test_a_repeat_has_one_effect_and_says_that_it_is_one(ledger: Ledger) -> None:
    first = await ledger.call("Add", "a", idempotency_key="k")
    again = ledger.call("Add", "a", idempotency_key="k")

    assert (await again).value == first.value == "a is entry 1"
    assert dict(await again.trailing_metadata()) == {REPLAYED: "true"}
    assert ledger.api.entries == ["a"]


async def test_a_first_answer_carries_the_servicers_trailers(ledger: Ledger) -> None:
    call = ledger.call("Add", "a", idempotency_key="k")
    await call

    assert dict(await call.trailing_metadata()) == {"entries": "1"}


async def test_calls_without_a_key_are_never_the_same(ledger: Ledger) -> None:
    assert [(await ledger.call("Add", "a")).value for _ in range(2)] == ["a is entry 1", "a is entry 2"]


async def test_a_key_with_another_request_is_refused_and_the_first_answer_stays(ledger: Ledger) -> None:
    await ledger.call("Add", "a", idempotency_key="k")

    assert await code_of(ledger.call("Add", "b", idempotency_key="k")) is Code.KEY_REUSED
    assert (await ledger.call("Add", "a", idempotency_key="k")).value == "a is entry 1"


@pytest.mark.parametrize(
    "other",
    [
        {"who": "key:other"},
        {"scope": Scope("other")},
        {"scope": Scope("acme", "lab")},
        {"idempotency_key": "K"},
        {"idempotency_key": "k "},
    ],
    ids=str,
)
async def test_a_key_belongs_to_its_caller_tenant_and_project(ledger: Ledger, other: dict[str, Any]) -> None:
    await ledger.call("Add", "a", idempotency_key="k")
    await ledger.call("Add", "a", **{"idempotency_key": "k", **other})

    assert ledger.api.entries == ["a", "a"]


@pytest.mark.parametrize(("length", "fits"), [(1, True), (255, True), (256, False), (10_000, False)])
async def test_a_key_has_at_most_255_characters(ledger: Ledger, length: int, fits: bool) -> None:
    call = ledger.call("Add", "a", idempotency_key="k" * length)

    if fits:
        assert (await call).value == "a is entry 1"
    else:
        assert await code_of(call) is Code.INVALID_VALUE
    assert len(ledger.api.entries) == fits


async def test_a_crowd_with_one_key_gets_one_answer(ledger: Ledger) -> None:
    calls = [ledger.call("Add", "a", idempotency_key="k") for _ in range(30)]
    answers = await asyncio.gather(*calls)
    replayed = [REPLAYED in dict(await call.trailing_metadata()) for call in calls]

    assert {answer.value for answer in answers} == {"a is entry 1"}
    assert sum(replayed) == 29


async def test_an_effect_that_broke_leaves_its_key_free(ledger: Ledger) -> None:
    assert await code_of(ledger.call("Add", "bad", idempotency_key="k")) is Code.INTERNAL

    assert (await ledger.call("Add", "good", idempotency_key="k")).value == "good is entry 1"


async def test_a_key_is_good_for_a_day_of_the_clock(ledger: Ledger, db: Database, schema: Schema) -> None:
    await ledger.call("Add", "a", idempotency_key="k")
    kept = await db.run(lambda connection: connection.execute(schema.keys.table.select()).one())

    assert abs(kept.expire_time - now() - LIFETIME).total_seconds() < 60


async def test_a_method_that_forgets_its_key_is_a_bug_and_not_a_silent_double(ledger: Ledger) -> None:
    assert await code_of(ledger.call("Careless", "a", idempotency_key="k")) is Code.INTERNAL
    assert (await ledger.call("Careless", "a")).value == "a", "without a key there is nothing to forget"


@pytest.mark.parametrize(("sent", "seen"), [('"7"', "7"), ("7", "7"), ('W/"7"', "7"), ('"a b"', "a b"), ("*", "*")])
async def test_an_etag_comes_without_its_quotes(ledger: Ledger, sent: str, seen: str) -> None:
    assert (await ledger.call("Change", if_match=sent)).value == seen


@pytest.mark.parametrize("sent", [{}, {"if_match": ""}, {"if_match": '""'}, {"if_match": 'W/""'}])
async def test_a_change_needs_an_etag(ledger: Ledger, sent: dict[str, str]) -> None:
    with pytest.raises(Failure, match="If-Match with the etag of the object is required") as caught:
        await ledger.call("Change", **sent)
    assert (caught.value.code, caught.value.code.http) == (Code.ETAG_REQUIRED, 428)


@pytest.mark.parametrize(
    ("who", "code"),
    [
        ("service:trainer", None),
        ("key:test", None),
        ("user:corp:ann", None),
        ("ann", Code.FORBIDDEN),
        ("", Code.FORBIDDEN),
    ],
)
async def test_internal_methods_are_for_services_keys_and_users(ledger: Ledger, who: str, code: Code | None) -> None:
    call = ledger.call("Inside", who=who)

    assert (await code_of(call) if code else (await call).value) == (code or "acme/default")


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        (["ledger.use"], True),
        (["ledger.*"], True),
        (["*"], True),
        ([], False),
        (["ledger.us"], False),
        (["l.*"], False),
    ],
)
async def test_a_method_needs_the_permission_it_declares(ledger: Ledger, permissions: list[str], allowed: bool) -> None:
    call = ledger.call("Look", permissions=permissions)

    if allowed:
        assert (await call).value == "acme/default"
    else:
        with pytest.raises(Failure, match=r"^ledger.use is not permitted$") as caught:
            await call
        assert caught.value.code is Code.FORBIDDEN


async def test_a_method_without_a_permission_still_needs_a_token(ledger: Ledger) -> None:
    assert (await ledger.call("Anybody", permissions=[])).value == "acme/default"
    assert await code_of(ledger.call("Anybody", authorization="Bearer ")) is Code.UNAUTHENTICATED


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "abc", "bearer", " Bearer abc"])
async def test_what_carries_no_token_is_unauthenticated(ledger: Ledger, header: str) -> None:
    assert await code_of(ledger.call("Look", authorization=header)) is Code.UNAUTHENTICATED


@pytest.mark.parametrize(("timeout", "left"), [(None, 10.0), (3.0, 3.0), (3600.0, 10.0)])
async def test_a_call_has_the_shorter_of_its_deadlines(ledger: Ledger, timeout: float | None, left: float) -> None:
    await ledger.call("Look", timeout=timeout)

    assert left - 2 < ledger.api.calls[-1].remaining() <= left


async def test_a_call_says_which_request_it_is_part_of(ledger: Ledger) -> None:
    await ledger.call("Look", x_request_id="r-7")
    await ledger.call("Look")

    assert [call.request_id for call in ledger.api.calls] == ["r-7", ""]


async def test_a_bug_is_logged_with_its_request_and_leaves_without_its_text(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(Failure, match=r"^internal error$"):
        await ledger.call("Add", "bad", x_request_id="r-9")

    (record,) = [record for record in caplog.records if "unhandled error" in record.message]
    assert record.__dict__["request_id"] == "r-9"
    assert record.exc_info
    assert isinstance(record.exc_info[1], ValueError)


async def test_long_text_is_refused_before_the_servicer_sees_it(ledger: Ledger) -> None:
    assert await code_of(ledger.call("Add", "x" * 5000)) is Code.INVALID_VALUE
    assert ledger.api.calls == []
