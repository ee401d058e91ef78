import numpy
import pytest

from aimass import AsyncClient, Failure
from tests.sdk.conftest import Door


async def test_calls_are_awaited(door: Door) -> None:
    door.refuse(503, "unavailable").say({"model": "late"})
    async with AsyncClient(door.url, "aim_key") as client:
        assert (await client.models.get_model(model="late")).model == "late"
    assert len(door.asked) == 2


async def test_pages_and_streams_are_asynchronous_iterators(door: Door) -> None:
    door.say({"models": [{"model": "a"}], "next_page_token": "t"}).say({"models": [{"model": "b"}]})
    async with AsyncClient(door.url, "aim_key", timeout=5) as client:
        assert [model.model async for model in client.models.iterate_models()] == ["a", "b"]
        door.answers[:] = []
        door.say(b'{"text":"one"}\n')
        assert [record.text async for record in client.logs.tail_logs()] == ["one"]


async def test_long_work_is_waited_for_without_blocking(door: Door) -> None:
    door.say({"operation": "trainer-1", "state": "OPERATION_STATE_RUNNING"}, 202)
    door.say({"operation": "trainer-1", "state": "OPERATION_STATE_CANCELLED", "end_time": "2026-01-01T00:00:00Z"})
    async with AsyncClient(door.url, "aim_key") as client:
        handle = await client.jobs.submit_job(spec={"model": "late"})
        assert not handle.done
        assert (await handle.cancel()).done
        with pytest.raises(Failure, match="cancelled"):
            await handle.result(progress=True)
        again = await client.operation("trainer-1")
        assert await again.refresh() is again
    assert repr(again) == "<trainer-1 cancelled 0%>"


async def test_files_go_up_and_come_down(door: Door) -> None:
    door.say({"upload": "u", "committed_size": "0"}).say({"upload": "u", "committed_size": "3"}).say({"digest": "d"})
    async with AsyncClient(door.url, "aim_key") as client:
        assert (await client.upload(b"abc", to="artifacts")).digest == "d"
        door.answers[:] = []
        door.say(b"abc")
        assert await client.download(run="r", artifact="card.md") == b"abc"


async def test_predictions_come_as_arrays(door: Door) -> None:
    door.say({"name": "late", "inputs": [{"name": "hour", "datatype": "INT64", "shape": [-1, 1]}]})
    outputs = [{"name": "p", "datatype": "FP32", "shape": [2, 1], "data": [0.5, 0.25]}]
    door.say({"model_name": "late", "outputs": outputs}, model_version="3;digest=sha256:a")
    async with AsyncClient(door.url, "aim_key") as client:
        answer = await client.predict("late", columns={"hour": [7, 8]}, request_id="mine")
        door.answers[:] = []
        door.say({"recorded": "2"})
        assert (await client.record_outcomes("late", answer.request_id, [0, 1])).recorded == 2
    assert numpy.array_equal(answer["p"], numpy.array([[0.5], [0.25]], "f4"))


async def test_who_is_told_to_come_back_with_a_stream_does(door: Door) -> None:
    door.refuse(429, "rate_limited").refuse(503, "overloaded").say(b'{"text":"one"}\n')
    async with AsyncClient(door.url, "aim_key", timeout=5) as client:
        assert [record.text async for record in client.logs.tail_logs()] == ["one"]
    assert len(door.asked) == 3
