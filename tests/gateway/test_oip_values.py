import math
import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.api.oip_body import decode
from services.gateway.api.oip_values import Floats, dump, framed, pack, strings, unpack
from services.kit.errors import Failure
from services.kit.tensors import SIZES, Tensor

INTEGERS = {kind: bits for kind in SIZES if kind.startswith(("INT", "UINT")) and (bits := 8 * SIZES[kind])}


def refused(datatype: str, data: Any, *shape: int) -> str:
    with pytest.raises(Failure) as caught:
        pack("x", datatype, shape or (len(data),), data, "/inputs/0")
    assert caught.value.violations[0].pointer.startswith("/inputs/0")
    return caught.value.detail


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_fp32_survives_json_bit_by_bit(values: list[float]) -> None:
    raw = pack("x", "FP32", (len(values),), values, "")
    text = dump(unpack(Tensor("x", "FP32", (len(values),), raw)))

    assert pack("x", "FP32", (len(values),), orjson.loads(text), "") == raw == np.array(values, "<f4").tobytes()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_fp64_survives_json_bit_by_bit(values: list[float]) -> None:
    raw = pack("x", "FP64", (len(values),), values, "")

    assert orjson.loads(dump(unpack(Tensor("x", "FP64", (len(values),), raw)))) == values


@given(st.lists(st.text(), min_size=1))
def test_strings_survive(values: list[str]) -> None:
    assert strings(pack("x", "BYTES", (len(values),), values, "")) == values


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_keep_their_range(datatype: str) -> None:
    bits = INTEGERS[datatype]
    low, high = (0, 2**bits - 1) if datatype[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    raw = pack("x", datatype, (2,), [low, high], "")

    assert orjson.loads(dump(unpack(Tensor("x", datatype, (2,), raw)))) == [low, high]
    assert refused(datatype, [high + 1]) == f"x is {datatype}: one of its values is out of range"


def test_booleans_are_true_or_false() -> None:
    raw = pack("x", "BOOL", (2,), [True, False], "")

    assert dump(unpack(Tensor("x", "BOOL", (2,), raw))) == b"[true,false]"
    assert refused("BOOL", [1]) == "x is BOOL: its values must be true or false, not a number"


@pytest.mark.parametrize(
    ("value", "word"),
    [(None, "null"), (True, "true"), ("1", "a string"), (1.5, "a fraction"), ({}, "an object"), ([1], "a list")],
)
def test_what_is_no_integer_is_named(value: Any, word: str) -> None:
    assert refused("INT32", [7, value]) == f"x is INT32: its values must be integers, not {word}"


def test_null_is_nan_or_the_empty_string() -> None:
    assert math.isnan(struct.unpack("<d", pack("x", "FP64", (1,), [None], ""))[0])
    assert pack("x", "BYTES", (1,), [None], "") == framed(b"")


def test_an_answer_that_json_cannot_write_is_null() -> None:
    raw = struct.pack("<3f", math.nan, math.inf, 1)

    assert dump(unpack(Tensor("x", "FP32", (3,), raw))) == b"[null,null,1.0]"


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_nested_lists_are_read_row_by_row(shape: list[int]) -> None:
    values = np.arange(math.prod(shape), dtype="<i4").reshape(shape)

    assert pack("x", "INT32", shape, values.tolist(), "") == values.tobytes()


@pytest.mark.parametrize("data", [[[1, 2], [3]], [[1, 2], 3], [[[1], [2]], [[3], [4]]], [[1, 2, 3, 4]]])
def test_ragged_lists_are_refused(data: Any) -> None:
    assert refused("INT32", data, 2, 2) == "the data of x is ragged or not of the shape [2, 2]"


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(
            st.sampled_from(["inputs", "outputs", "id", "name", "shape", "datatype", "data", "parameters"]), part
        )
    ),
    max_leaves=12,
)


@given(JSON, st.none() | st.integers(0, 40))
def test_nothing_that_is_json_makes_it_stumble(document: Any, size: int | None) -> None:
    try:
        body = orjson.dumps(document)
    except TypeError:  # an integer beyond 64 bits
        body = str(document).encode()
    try:
        decode(body, size)
    except Failure as failure:
        assert failure.code.http < 500


@given(st.binary(max_size=200))
def test_nothing_at_all_makes_it_stumble(body: bytes) -> None:
    with pytest.raises(Failure):
        decode(body, None)


@given(
    st.sampled_from(["FP32", "FP64"]),
    st.lists(st.floats(allow_nan=False) | st.integers(-(2**200), 2**200) | st.booleans() | st.none(), max_size=4)
    | st.lists(st.lists(st.floats(0, 1), max_size=2), max_size=2)
    | st.text(max_size=3),
)
def test_flat_numbers_are_packed_as_ever_and_all_else_is_left_to_be_read(datatype: str, data: Any) -> None:
    try:
        known = pack("x", datatype, (2, 1), data, "/inputs/0")
    except Failure:
        known = b""
    plain = isinstance(data, list) and all(type(one) in (int, float) for one in data)

    assert Floats(datatype, (2, 1)).pack(data) == (known if plain else b"")
