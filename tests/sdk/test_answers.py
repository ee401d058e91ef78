"""Answers that no gateway of ours gives, and values that JSON does not have: what both clients make of them."""

import math
from pathlib import Path
from typing import Any

import numpy
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass import AsyncClient, Client, Failure, contract, door, predictions
from aimass.cli import checks
from aimass.cli.checks import Grade
from aimass.encoding import decode, prepare
from aimass.v1 import models_pb2, operations_pb2
from tests.sdk.conftest import Door

MODEL = models_pb2.Model.DESCRIPTOR
INPUTS = [{"name": "hour", "datatype": "INT64", "shape": [-1, 1]}]


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b"7", b"null", b"\xff", b'{"model": ', b'"late"'])
def test_a_page_of_somebody_else_is_named_as_such(door: Door, client: Client, body: bytes) -> None:
    door.say(body)

    with pytest.raises(Failure, match="is this address an AI Mass gateway") as caught:
        client.models.get_model(model="late")
    assert caught.value.code == "internal"


def test_json_of_another_shape_is_named_as_such(door: Door, client: Client) -> None:
    door.say({"model": {"name": "late"}})

    with pytest.raises(Failure, match="the answer is not a Model"):
        client.models.get_model(model="late")


async def test_the_other_client_says_the_same(door: Door) -> None:
    door.say(b"<html>")
    async with AsyncClient(door.url, "aim_key") as client:
        with pytest.raises(Failure, match="is this address an AI Mass gateway"):
            await client.models.get_model(model="late")


@given(st.binary(max_size=40))
def test_no_bytes_break_the_reading_of_an_answer(body: bytes) -> None:
    try:
        decode(MODEL, body)
    except Failure as failure:
        assert failure.code == "internal"


@pytest.mark.parametrize("rest", [b'{"text":', b"<html>", b'{"text":"tw'])
def test_a_stream_that_is_cut_in_a_message_is_unavailable(door: Door, client: Client, rest: bytes) -> None:
    door.say(b'{"text":"one"}\n' + rest)
    records = client.logs.tail_logs()

    assert next(records).text == "one"
    with pytest.raises(Failure, match="ended in the middle") as caught:
        next(records)
    assert caught.value.code == "unavailable"


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (0.5, 0.5), (-0.0, -0.0)]
)
def test_numbers_that_json_does_not_have_are_written_as_the_contract_writes_them(value: float, text: object) -> None:
    arguments = {"model": "late", "metrics": {"auc": value, "other": numpy.float64(value)}}
    body = orjson.loads(prepare(contract.method("models", "create_model_version"), arguments).body or b"")

    assert body["metrics"] == {"auc": text, "other": text}


@pytest.mark.parametrize("name", [".", ".."])
def test_no_name_leads_out_of_its_place(client: Client, name: str) -> None:
    with pytest.raises(Failure, match=f"model cannot be {name}"):
        client.models.get_model(model=name)
    with pytest.raises(Failure, match="a model cannot have the name"):
        client.predict(name, columns={"hour": [1]})


@pytest.mark.parametrize("name", ["a/../b", "a?b=c", "a#b", "ä", "%2e%2e", "a b"])
def test_a_model_is_one_part_of_a_path(name: str) -> None:
    path = predictions.path_of(name, 3)

    assert path.startswith("/v2/models/")
    assert path.endswith("/versions/3")
    assert path.count("/") == 5
    assert path.isascii()
    assert not set("?# ") & set(path)


def test_a_choice_that_the_contract_does_not_have_is_said_so() -> None:
    with pytest.raises(TypeError, match="format has no value 99"):
        prepare(contract.method("sources", "create_source"), {"source": "a", "files": {"format": 99}})


@given(st.integers(0, 10**9), st.integers(0, 999_999))
def test_a_duration_is_exact_to_the_microsecond(seconds: int, micros: int) -> None:
    from datetime import timedelta

    value = timedelta(seconds=seconds % 10**6, microseconds=micros)
    prepared = prepare(contract.method("operations", "wait_operation"), {"operation": "a", "timeout": value})
    text = orjson.dumps({"operation": "a", "timeout": dict(prepared.query)["timeout"]})
    request = decode(operations_pb2.WaitOperationRequest.DESCRIPTOR, text)

    assert request.timeout.ToTimedelta() == value  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "raw"),
    [
        ([b"UA", "AA"], b"\x02\0\0\0UA\x02\0\0\0AA"),
        ([None, float("nan"), ""], b"\0\0\0\0" * 3),
        (numpy.array(["UA"], dtype="S2"), b"\x02\0\0\0UA"),
        (numpy.array(["UA"], dtype=object), b"\x02\0\0\0UA"),
        (["ä"], b"\x02\0\0\0\xc3\xa4"),
        ([7], b"\x01\0\0\x007"),
    ],
)
def test_texts_may_be_bytes_and_missing(values: Any, raw: bytes) -> None:
    assert predictions._bytes("BYTES", values) == raw


@pytest.mark.parametrize(
    "values", [[7.5], numpy.array([0.1]), [float("nan")], [1, 2.5], [None], ["noon"], [2**63], [[1], [2, 3]]], ids=str
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_whole_numbers_are_never_made_of_others(door: Door, client: Client, values: Any) -> None:
    door.say({"inputs": INPUTS})

    with pytest.raises(Failure, match="hour takes INT64") as caught:
        client.predict("late", columns={"hour": values})
    assert caught.value.code == "invalid_value"
    assert len(door.asked) == 1, "nothing was sent"


@pytest.mark.parametrize("values", [[7, 8], [7.0, 8.0], numpy.array([7, 8], "i2"), (7, 8), [True, False]], ids=str)
def test_what_is_whole_is_taken(values: Any) -> None:
    assert predictions._bytes("INT64", values) == numpy.asarray(values, "<i8").tobytes()


@given(st.lists(st.text(max_size=6), max_size=6))
def test_texts_come_back_as_they_went(texts: list[str]) -> None:
    try:
        raw = predictions._bytes("BYTES", texts)
    except UnicodeEncodeError:
        return  # a lone surrogate is no text
    assert predictions._texts(raw) == texts


@pytest.mark.parametrize("body", [b"<html>", {"name": "late"}, {"inputs": None}, []])
def test_what_does_not_say_what_a_model_takes_is_no_model(door: Door, client: Client, body: Any) -> None:
    door.say(body)

    with pytest.raises(Failure) as caught:
        client.predict("late", columns={"hour": [7]})
    assert caught.value.code == "internal"


@pytest.mark.parametrize("doors", ["{}", "[]", "null", '{"grpc": 1}', "{", "", '{"http": '])
def test_an_installation_that_is_being_made_is_none_yet(doors: str, tmp_path: Path) -> None:
    (tmp_path / "doors.json").write_text(doors)
    (tmp_path / "admin-key").write_text("aim_x")

    with pytest.raises(Failure, match="no installation is known"):
        door.find(env={"AIMASS_HOME": str(tmp_path), "HOME": str(tmp_path)})


def test_a_login_that_is_no_text_is_named(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "AIMASS_HOME": str(tmp_path / "none")}
    path = door.save(door.Door("https://far", "k"), env)
    path.write_bytes(b"url = \xff")

    with pytest.raises(Failure, match="cannot be read"):
        door.find(env=env)


@pytest.mark.parametrize("port", ["http", "-1", "65536", "80 ", "8e3", ""])
def test_doctor_names_a_port_that_is_none(port: str) -> None:
    (found, free) = checks.ports({"AIMASS_GATEWAY_HTTP_PORT": port, "AIMASS_GATEWAY_GRPC_PORT": "0"})

    assert (found.grade, found.found) == (Grade.BAD, f"{port!r} is not a port")
    assert "AIMASS_GATEWAY_HTTP_PORT" in found.do
    assert free.grade is Grade.GOOD
