import struct
from datetime import UTC, datetime
from typing import Any

import numpy
import orjson
import pytest

from aimass import Client, Failure, predictions
from tests.sdk.conftest import Door

INPUTS = [
    {"name": "carrier", "datatype": "BYTES", "shape": [-1, 1]},
    {"name": "hour", "datatype": "FP64", "shape": [-1, 1]},
]


def answer(door: Door, **more: Any) -> None:
    head = {"model_name": "late", "model_version": "3", "outputs": []}
    tensors = {"p": ("FP32", numpy.array([0.5, 0.25], "<f4").tobytes()), "t": ("BYTES", b"\x01\0\0\0a\x02\0\0\0bc")}
    for name, (datatype, raw) in tensors.items():
        parameters = {"binary_data_size": len(raw)}
        head["outputs"].append({"name": name, "datatype": datatype, "shape": [2, 1], "parameters": parameters})  # type: ignore[attr-defined]
    content = orjson.dumps(head)
    body, length = content + b"".join(raw for _, raw in tensors.values()), str(len(content))
    door.say(body, inference_header_content_length=length, model_version="3;digest=sha256:a")


def test_columns_travel_as_binary_tensors_and_come_back_as_arrays(door: Door, client: Client) -> None:
    door.say({"inputs": INPUTS})
    answer(door)
    found = client.predict("late", columns={"carrier": ["UA", None], "hour": [7, None]}, request_id="mine")

    asked = door.asked[1]
    size = int(asked.headers["inference-header-content-length"])
    assert asked.body[size:] == b"\x02\0\0\0UA\0\0\0\0" + struct.pack("<2d", 7.0, float("nan"))
    assert [tensor["shape"] for tensor in orjson.loads(asked.body[:size])["inputs"]] == [[2, 1], [2, 1]]
    assert asked.headers["x-request-id"] == "mine"
    assert (found.model, found.version, found.digest, found.request_id) == ("late", 3, "sha256:a", "r-1")
    assert found["p"].tolist() == [[0.5], [0.25]]
    assert found["t"] == ["a", "bc"]


@pytest.mark.parametrize("numpy_there", [True, False])
def test_times_travel_as_seconds_since_1970(
    door: Door, client: Client, monkeypatch: pytest.MonkeyPatch, numpy_there: bool
) -> None:
    if not numpy_there:
        monkeypatch.setattr(predictions, "_numpy", lambda: None)
    door.say({"inputs": INPUTS})
    door.say({"model_name": "late", "outputs": [{"name": "p", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}]})
    at = datetime(1970, 1, 2, 0, 0, 0, 250_000, UTC)
    client.predict("late", rows=[{"hour": at}, {"hour": 7}, {"hour": at.isoformat()}])

    body = door.asked[1].body
    sent = struct.unpack("<3d", body[-24:]) if numpy_there else tuple(orjson.loads(body)["inputs"][0]["data"])
    assert sent == (86_400.25, 7.0, 86_400.25)


@pytest.mark.parametrize("text", ["Tuesday", "2026-03-01T12:00:00", "T"])
def test_a_text_that_is_no_moment_is_not_taken_for_one(door: Door, client: Client, text: str) -> None:
    door.say({"inputs": INPUTS})

    with pytest.raises(Failure, match="hour takes FP64"):
        client.predict("late", rows=[{"hour": text}])


def test_rows_may_lack_what_is_missing_and_a_version_may_be_named(door: Door, client: Client) -> None:
    door.say({"inputs": INPUTS})
    answer(door)
    answer(door)
    rows: list[dict[str, Any]] = [{"carrier": "UA", "hour": 7}, {"carrier": "AA"}]

    client.predict("late", rows=rows, version=2)
    client.predict("late", rows=rows, version=2)
    infer = "/v2/models/late/versions/2/infer"
    assert [asked.path for asked in door.asked] == ["/v2/models/late/versions/2", infer, infer]


def test_without_numpy_lists_travel_as_json(door: Door, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_numpy", lambda: None)
    door.say({"inputs": INPUTS})
    door.say({"model_name": "late", "outputs": [{"name": "p", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}]})

    assert client.predict("late", columns={"hour": (7,)})["p"] == [0.5]
    assert door.asked[1].json["inputs"] == [{"name": "hour", "datatype": "FP64", "shape": [1, 1], "data": [7]}]


def test_what_the_model_does_not_take_is_said_before_it_travels(door: Door, client: Client) -> None:
    door.say({"inputs": INPUTS})
    with pytest.raises(Failure, match="late has no input dest; it has carrier, hour"):
        client.predict("late", columns={"dest": ["IAH"]})
    with pytest.raises(Failure, match="hour takes FP64"):
        client.predict("late", columns={"hour": ["noon"]})
    with pytest.raises(TypeError, match="needs columns or rows"):
        client.predict("late")


def test_what_a_model_takes_is_asked_again_after_a_failure(door: Door, client: Client) -> None:
    door.say({"inputs": INPUTS}).refuse(422, "invalid_value").say({"inputs": INPUTS})
    answer(door)
    with pytest.raises(Failure, match="invalid_value"):
        client.predict("late", columns={"hour": [7]})
    assert client.predict("late", columns={"hour": [7]}).version == 3


def test_outcomes_are_told_in_portions(door: Door, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_PORTION", 2)
    door.say({"recorded": "2"}).say({"recorded": "0", "known": "1"})
    answer = client.record_outcomes("late", "r", [1, 0, 1])

    assert (answer.recorded, answer.known) == (2, 1)
    assert door.asked[1].json["outcomes"] == [{"request_id": "r", "row": 2, "value": 1.0}]
