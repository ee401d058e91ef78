"""The table of routes in a running gateway, and predictions through it."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.gateway.traffic.lanes import Limits
from services.gateway.traffic.service import Prediction, Query
from services.kit.auth import Principal, Scope
from services.kit.errors import Code, Failure
from services.kit.tensors import Tensor
from tests.gateway.peers import ACME, GONE, LOADING, SERVING, WITHDRAWN, Peers, peers, release
from tests.support.house import until


def query(*values: float, seconds: float = 5, name: str = "r") -> Query:
    """Rows of two columns."""
    raw = struct.pack(f"<{len(values)}f", *values)
    inputs = [Tensor("x", "FP32", (len(values) // 2, 2), raw)]
    return Query(name, time.monotonic() + seconds, inputs, (), Principal(ACME, "key:abcd1234", ()))


async def ask(running: Peers, asked: Query, version: str = "") -> Prediction:
    return await running.traffic.predict(running.traffic.route(ACME, "late", version), asked)


def sums(prediction: Prediction) -> list[float]:
    return [value for (value,) in struct.iter_unpack("<f", prediction.outputs[0].raw)]


def answering(running: Peers, model: str = "late") -> int:
    """The version that answers now; 0: none."""
    try:
        return running.traffic.route(ACME, model, "").version.number
    except Failure:
        return 0


async def refusal(running: Peers, asked: Query, version: str = "") -> tuple[Code, str]:
    with pytest.raises(Failure) as caught:
        await ask(running, asked, version)
    return caught.value.code, caught.value.detail


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Peers]:
    releases = [release("late", 1, SERVING, 1, 1)]
    async with peers(tmp_path, ("acme", "late", 1), releases=releases, limits=Limits(calls=1)) as found:
        await until(lambda: answering(found) == 1)
        yield found


async def test_a_snapshot_is_enough_to_answer(running: Peers) -> None:
    assert running.api.ready()
    assert sums(await ask(running, query(1, 2, 3, 4))) == [3, 7]
    assert await running.applied() == []


async def test_one_record_is_told_of_each_answer(running: Peers) -> None:
    await ask(running, query(1, 2, 3, 4, name="r-9"))

    [record] = running.records
    attributes = dict(record.attributes)
    assert (record.kind, record.name, record.scope, record.service) == ("prediction", "late", ACME, "gateway")
    assert 0 < attributes.pop("duration_ms") < 5000
    assert attributes == {
        "request_id": "r-9",
        "model": "late",
        "version": 1,
        "status": 200,
        "rows": 2,
        "principal": "key:abcd1234",
        "scores": struct.pack("<2d", 3, 7),
    }


async def test_what_does_not_fit_is_refused_before_it_leaves(running: Peers) -> None:
    asked = query(1, 2)._replace(inputs=[])

    assert await refusal(running, asked) == (Code.INVALID_VALUE, "the input x is missing")
    assert running.inference.calls == []
    assert running.records == []


async def test_another_tenant_sees_no_model(running: Peers) -> None:
    with pytest.raises(Failure, match="there is no model late"):
        running.traffic.route(Scope("other"), "late", "")


async def test_a_promotion_switches_when_the_version_is_loaded_and_says_so(running: Peers) -> None:
    await running.say_release(release("late", 2, LOADING, 2, 1))
    await running.say_engine("late", 2)
    await until(lambda: answering(running) == 2)
    await running.say_release(release("late", 3, SERVING, 2, 2, 1))
    await running.say_release(release("late", 2, LOADING, 9, 1))

    await until(lambda: running.applied())
    assert (await running.applied())[0] == ("late", 2, 2)
    assert answering(running) == 2
    assert (await ask(running, query(1, 1), "1")).pinned.version.number == 1
    assert running.traffic.versions(ACME, "late") == [1, 2]


async def test_no_request_fails_while_versions_change(running: Peers) -> None:
    seen: set[int] = set()

    async def keep_asking() -> None:
        while seen != {1, 2}:
            prediction = await ask(running, query(1, 2))
            assert sums(prediction) == [3]
            seen.add(prediction.pinned.version.number)

    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        for _ in range(4):
            group.create_task(keep_asking())
        await running.say_release(release("late", 2, LOADING, 2, 1))
        await running.say_engine("late", 2)


async def test_a_withdrawn_model_answers_no_more(running: Peers) -> None:
    await running.say_release(release("late", 2, WITHDRAWN, 0))

    await until(lambda: running.applied())
    assert await running.applied() == [("late", 2, 0)]
    assert await _code(running) == (Code.NOT_FOUND, "late has no version that serves")


async def _code(running: Peers) -> tuple[Code, str]:
    return await refusal(running, query(1, 2))


async def test_a_version_that_vanished_is_replaced_by_the_one_that_serves_now(running: Peers) -> None:
    pinned = running.traffic.route(ACME, "late", "")
    await running.say_release(release("late", 2, LOADING, 2, 1))
    await running.say_engine("late", 2)
    await until(lambda: answering(running) == 2)
    running.inference.loaded.discard(("acme", "late", 1))

    prediction = await running.traffic.predict(pinned, query(1, 2))

    assert (prediction.pinned.version.number, sums(prediction)) == (2, [3])


async def test_a_named_version_that_vanished_while_it_serves_is_waited_for(running: Peers) -> None:
    running.inference.loaded.clear()

    assert await refusal(running, query(1, 2), "1") == (Code.UNAVAILABLE, "late version 1 is being loaded")


async def test_a_named_version_that_vanished_and_serves_no_more_is_not_found(running: Peers) -> None:
    await running.say_release(release("late", 2, LOADING, 2, 1))
    await running.say_engine("late", 2)
    await until(lambda: answering(running) == 2)
    running.inference.loaded.discard(("acme", "late", 1))

    assert await refusal(running, query(1, 2), "1") == (Code.NOT_FOUND, "late has no version 1 that is loaded")


async def test_a_table_that_was_wrong_is_asked_for_again(running: Peers) -> None:
    running.inference.loaded.clear()
    assert (await refusal(running, query(1, 2)))[0] is Code.UNAVAILABLE
    running.inference.loaded.add(("acme", "late", 1))

    await until(lambda: answering(running) == 1)


async def test_an_unloaded_version_is_not_asked(running: Peers) -> None:
    await running.say_engine("late", 1, GONE)

    await until(lambda: answering(running) == 0)
    assert (await _code(running))[0] is Code.UNAVAILABLE


async def test_a_gateway_waits_for_its_first_snapshot(tmp_path: Path) -> None:
    async with peers(tmp_path) as running:
        running.traffic.whole = False
        del running.runtime.directory.local["registry"].methods["/aimass.v1.Releases/SnapshotReleases"]
        with pytest.raises(Failure, match="there is no method"):
            await running.api.take_snapshot()

        assert not running.api.ready()


async def test_after_a_restart_the_change_under_way_is_applied(tmp_path: Path) -> None:
    loading = release("late", 2, LOADING, 2, 1)
    async with peers(tmp_path, ("acme", "late", 1), releases=[loading]) as running:
        await until(lambda: answering(running) == 1)

    async with peers(tmp_path, ("acme", "late", 1), ("acme", "late", 2), releases=[loading]) as running:
        await until(lambda: running.applied())
        assert await running.applied() == [("late", 2, 2)]
        assert answering(running) == 2


async def held(running: Peers, *queries: Query) -> list[asyncio.Task[Prediction]]:
    """Requests of which the first is in a call that does not end before `gate` is set; the others wait for it."""
    running.inference.gate.clear()
    tasks = [asyncio.create_task(ask(running, queries[0]))]
    await until(lambda: running.inference.calls)
    tasks += [asyncio.create_task(ask(running, one)) for one in queries[1:]]
    await asyncio.sleep(0.01)
    return tasks


async def test_requests_that_come_in_one_turn_share_a_call(running: Peers) -> None:
    asked = [asyncio.create_task(ask(running, query(n, 1))) for n in range(5)]

    assert [sums(await one) for one in asked] == [[n + 1] for n in range(5)]
    assert running.inference.calls == [5]


async def test_requests_that_wait_leave_together(running: Peers) -> None:
    asked = await held(running, *(query(n, 1) for n in range(33)))
    running.inference.gate.set()

    assert [sums(await one) for one in asked] == [[n + 1] for n in range(33)]
    assert running.inference.calls == [1, 32]


async def test_requests_of_two_versions_do_not_share_a_call(running: Peers) -> None:
    await running.say_release(release("late", 2, SERVING, 2, 2, 1))
    await running.say_engine("late", 2)
    await until(lambda: answering(running) == 2)
    running.inference.gate.clear()
    asked = [asyncio.create_task(ask(running, query(1, 1), version)) for version in ("1", "2")]
    await until(lambda: len(running.inference.calls) == 2)
    running.inference.gate.set()

    assert [(await one).pinned.version.number for one in asked] == [1, 2]


async def test_an_error_of_one_is_not_an_error_of_all(running: Peers) -> None:
    first, bad, good = await held(running, *(query(n, 1) for n in (1, 2e6, 3)))
    running.inference.gate.set()

    assert sums(await first) == [2]
    assert sums(await good) == [4]
    with pytest.raises(Failure, match="x is too large"):
        await bad
    assert running.inference.calls == [1, 2]


async def test_what_breaks_only_together_is_asked_one_by_one(running: Peers) -> None:
    running.inference.broken = True
    asked = await held(running, *(query(n, 1) for n in range(3)))
    running.inference.gate.set()

    assert [sums(await one) for one in asked] == [[1], [2], [3]]
    assert running.inference.calls == [1, 2, 1, 1]


async def test_a_caller_who_leaves_takes_nobody_along(running: Peers) -> None:
    asked = await held(running, *(query(n, 1) for n in range(3)))
    asked[0].cancel()
    asked[1].cancel()
    await asyncio.sleep(0)
    running.inference.gate.set()

    assert sums(await asked[2]) == [3]
    assert running.inference.calls == [1, 1]


async def test_a_request_whose_time_is_over_while_it_waits_is_told_so(running: Peers) -> None:
    [first] = await held(running, query(1, 1))

    assert await refusal(running, query(2, 2, seconds=0.05)) == (Code.DEADLINE_EXCEEDED, "late took too long")
    running.inference.gate.set()
    await first
    assert running.inference.calls == [1]


async def test_a_call_ends_with_the_deadline_of_its_request(running: Peers) -> None:
    running.inference.gate.clear()

    assert (await refusal(running, query(2, 2, seconds=0.05)))[0] is Code.DEADLINE_EXCEEDED


async def test_more_than_may_wait_is_refused_at_once(tmp_path: Path) -> None:
    releases = [release("late", 1, SERVING, 1, 1)]
    async with peers(tmp_path, ("acme", "late", 1), releases=releases, limits=Limits(waiting=1, calls=1)) as running:
        await until(lambda: answering(running) == 1)
        asked = await held(running, query(0, 1), query(1, 1))

        assert await refusal(running, query(3, 3)) == (Code.OVERLOADED, "late has too many requests waiting")
        running.inference.gate.set()
        assert [sums(await one) for one in asked] == [[1], [2]]


async def test_a_call_holds_no_more_than_its_bounds(tmp_path: Path) -> None:
    releases = [release("late", 1, SERVING, 1, 1)]
    async with peers(
        tmp_path, ("acme", "late", 1), releases=releases, limits=Limits(rows=3, items=2, calls=1)
    ) as running:
        await until(lambda: answering(running) == 1)
        asked = await held(running, *(query(*range(2 * rows)) for rows in (1, 1, 1, 1, 4, 2)))
        running.inference.gate.set()
        await asyncio.gather(*asked)

        assert running.inference.calls == [1, 2, 1, 1, 1]


async def test_a_long_call_does_not_hold_back_the_next(tmp_path: Path) -> None:
    releases = [release("late", 1, SERVING, 1, 1)]
    async with peers(tmp_path, ("acme", "late", 1), releases=releases, limits=Limits(calls=2)) as running:
        await until(lambda: answering(running) == 1)
        asked = await held(running, *(query(n, 1) for n in range(6)))
        assert running.inference.calls == [1, 5]
        asked.append(asyncio.create_task(ask(running, query(6, 1))))
        await asyncio.sleep(0.01)
        assert running.inference.calls == [1, 5]
        running.inference.gate.set()

        assert [sums(await one) for one in asked] == [[n + 1] for n in range(7)]
        assert running.inference.calls == [1, 5, 1]
