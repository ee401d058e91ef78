from typing import Any

import pytest
from rich.console import Console

from aimass import Client, Failure
from aimass.operations import Show
from aimass.v1 import operations_pb2 as pb
from tests.sdk.conftest import Door

RUNNING = {"operation": "data-1", "state": "OPERATION_STATE_RUNNING", "progress": 0.5, "resource": "rules/a"}
END = {"operation": "data-1", "end_time": "2026-01-01T00:00:00Z"}
DONE = {"@type": "type.aimass.dev/aimass.v1.Extraction", "rule": "a", "rows_accepted": "7"}


def test_what_came_of_long_work_is_unpacked(door: Door, client: Client) -> None:
    door.say(RUNNING, 202).say(RUNNING).say({**END, "state": "OPERATION_STATE_SUCCEEDED", "response": DONE})

    handle = client.extractions.run_extraction(rule="a")
    assert repr(handle) == "<data-1 running 50%>"
    assert handle.result(progress=True).rows_accepted == 7
    assert [asked.path for asked in door.asked[1:]] == ["/v1/operations/data-1:wait"] * 2
    assert door.asked[1].query["timeout"] == ["0.5s"]


def test_what_it_failed_with_is_raised(door: Door, client: Client) -> None:
    error: dict[str, Any] = {"code": "failed_precondition", "detail": "a has no active version"}
    error["violations"] = [{"pointer": "/rule", "rule": "must be active"}]
    door.say(RUNNING, 202).say({**END, "state": "OPERATION_STATE_FAILED", "error": error})

    with pytest.raises(Failure, match="a has no active version") as caught:
        client.extractions.run_extraction(rule="a").result()
    assert caught.value.violations[0].pointer == "/rule"


def test_waiting_ends_when_its_time_is_over_and_the_work_goes_on(door: Door, client: Client) -> None:
    door.say(RUNNING, 202).say(RUNNING)
    handle = client.extractions.run_extraction(rule="a")
    with pytest.raises(Failure, match="it is still running"):
        handle.wait(timeout=0.05)
    assert not handle.refresh().done


def test_it_can_be_stopped_and_taken_up_again_by_its_id(door: Door, client: Client) -> None:
    door.say(RUNNING)
    assert client.operation("data-1").cancel().id == "data-1"
    assert [asked.path for asked in door.asked] == ["/v1/operations/data-1", "/v1/operations/data-1:cancel"]


def test_progress_is_a_bar_with_the_work_and_its_message() -> None:
    console = Console(force_terminal=True, width=120, record=True)
    with Show(True, console) as draw:
        assert draw
        draw(pb.Operation(resource="rules/a", stage="reading [red] of [/x]", progress=0.5))
    assert "rules/a: reading [red] of [/x]" in console.export_text()
