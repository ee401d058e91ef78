"""Bodies of the Open Inference Protocol: JSON with and without bytes behind it."""

import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.api.oip_body import Asked, decode, encode
from services.gateway.traffic.domain.routing import Pinned, Version
from services.gateway.traffic.domain.tensors import Signature
from services.gateway.traffic.service import Prediction
from services.kit.errors import Code, Failure
from services.kit.tensors import Tensor


def floats(name: str, *values: float) -> Tensor:
    return Tensor(name, "FP32", (len(values), 1), struct.pack(f"<{len(values)}f", *values))


def answered(*outputs: Tensor) -> Prediction:
    version = Version(3, "sha256:" + "0" * 64, Signature((), ()))
    return Prediction(Pinned("late", version, named=False), list(outputs))


def asked(**fields: Any) -> Asked:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}
    return decode(orjson.dumps({"inputs": [tensor], **fields}), None)


def split(tensors: list[Tensor]) -> tuple[bytes, int]:
    """Tensors as a request whose values all come as bytes."""
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
            "parameters": {"binary_data_size": len(tensor.raw)},
        }
        for tensor in tensors
    ]
    text = orjson.dumps({"inputs": inputs})
    return text + b"".join(tensor.raw for tensor in tensors), len(text)


TENSORS = st.lists(
    st.builds(
        Tensor,
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
        st.sampled_from(["FP32", "INT64", "BYTES"]),
        st.lists(st.integers(0, 2**63 - 1), max_size=8).map(tuple),
        st.binary(max_size=40),
    ),
    min_size=1,
    max_size=6,
)


@given(TENSORS)
def test_what_comes_as_bytes_is_taken_as_it_is(tensors: list[Tensor]) -> None:
    body, size = split(tensors)

    assert decode(body, size).inputs == tensors


@given(TENSORS, st.integers(-20, 20).filter(bool))
def test_a_body_that_is_longer_or_shorter_than_it_says_is_refused(tensors: list[Tensor], change: int) -> None:
    body, size = split(tensors)
    changed = body[:change] if change < 0 else body + b"x" * change

    with pytest.raises(Failure) as caught:
        decode(changed, size)
    assert caught.value.code in (Code.BAD_FRAMING, Code.MALFORMED_JSON)


@given(st.binary(max_size=60), st.none() | st.integers(-1, 70))
def test_nothing_but_a_failure_comes_of_any_bytes(body: bytes, size: int | None) -> None:
    with pytest.raises(Failure):
        decode(body, size)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON | st.just("x"),
        "shape": JSON | st.just([1]),
        "datatype": JSON | st.sampled_from(["FP32", "INT8", "BOOL", "BYTES"]),
        "data": JSON,
        "parameters": JSON | st.just({"binary_data_size": 0}),
    },
)


@given(st.fixed_dictionaries({"inputs": st.lists(PARTS, max_size=2) | JSON}, optional={"outputs": JSON, "id": JSON}))
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    try:
        found = decode(orjson.dumps(document), None)
    except Failure as failure:
        assert failure.code in (Code.INVALID_VALUE, Code.BAD_FRAMING)
    else:
        assert len(found.inputs) == len(document["inputs"])


def test_bytes_and_json_may_be_mixed() -> None:
    inputs = [
        {"name": "a", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
        {"name": "b", "datatype": "INT8", "shape": [2], "data": [3, 4]},
        {"name": "c", "datatype": "INT8", "shape": [1], "parameters": {"binary_data_size": 1}},
    ]
    text = orjson.dumps({"inputs": inputs})
    found = decode(text + b"\x01\x02\x05", len(text)).inputs

    assert [tensor.raw for tensor in found] == [b"\x01\x02", b"\x03\x04", b"\x05"]


@pytest.mark.parametrize("size", [-1, True, 1.0, "1", 2**70, [1]])
def test_a_size_of_bytes_is_a_whole_number(size: Any) -> None:
    tensor = {"name": "a", "datatype": "INT8", "shape": [1], "parameters": {"binary_data_size": size}}
    text = orjson.dumps({"inputs": [tensor]}) if size != 2**70 else b'{"inputs":[]}'

    with pytest.raises(Failure):
        decode(text + b"\x01", len(text))


def test_without_a_wish_all_outputs_go_out_as_json() -> None:
    body, json_size = encode(asked(), answered(floats("p", 0.5), floats("q", 0.25, 0.75)))

    document = orjson.loads(body)
    assert json_size == 0
    assert (document["model_name"], document["model_version"], "id" in document) == ("late", "3", False)
    assert [output["data"] for output in document["outputs"]] == [[0.5], [0.25, 0.75]]


def test_a_wish_for_all_holds_where_an_output_says_nothing_else() -> None:
    wish = {
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "p"}, {"name": "q", "parameters": {"binary_data": False}}],
    }
    body, json_size = encode(asked(**wish), answered(floats("p", 0.5), floats("q", 0.25)))

    first, second = orjson.loads(body[:json_size])["outputs"]
    assert (first["parameters"], "data" in first) == ({"binary_data_size": 4}, False)
    assert second["data"] == [0.25]
    assert body[json_size:] == struct.pack("<f", 0.5)


@given(st.lists(st.tuples(st.binary(max_size=9), st.booleans()), min_size=1, max_size=5))
def test_binary_outputs_follow_in_their_order(parts: list[tuple[bytes, bool]]) -> None:
    outputs = [Tensor(f"o{n}", "UINT8", (len(raw),), raw) for n, (raw, _) in enumerate(parts)]
    wish = [{"name": f"o{n}", "parameters": {"binary_data": binary}} for n, (_, binary) in enumerate(parts)]
    body, json_size = encode(asked(outputs=wish), answered(*outputs))

    document, at = orjson.loads(body[:json_size] if json_size else body), json_size
    for output, (raw, binary) in zip(document["outputs"], parts, strict=True):
        if binary:
            size = output["parameters"]["binary_data_size"]
            assert body[at : at + size] == raw
            at += size
        else:
            assert output["data"] == list(raw)
    assert at in (len(body), 0)


@pytest.mark.parametrize("name", ["", "7", "a" * 256, "\u00e9"])
def test_an_id_comes_back(name: str) -> None:
    body, _ = encode(asked(id=name), answered(floats("p", 0.5)))

    assert orjson.loads(body)["id"] == name
