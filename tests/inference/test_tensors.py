import struct

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.inference.domain.tensors import Signature, decode, encode, fit
from services.kit.errors import InvalidValue
from services.kit.tensors import Spec, Tensor

X = Spec("x", "FP32", (-1, 2))
NAME = Spec("carrier", "BYTES", (-1, 1))
FLAG = Spec("late", "BOOL", (-1,))


def tensor(name: str = "x", datatype: str = "FP32", shape: tuple[int, ...] = (1, 2), raw: bytes = bytes(8)) -> Tensor:
    return Tensor(name, datatype, shape, raw)


def refused(signature: Signature, *inputs: Tensor) -> str:
    with pytest.raises(InvalidValue) as caught:
        fit(signature, inputs)
    assert caught.value.violations
    return caught.value.detail


def test_tensors_that_fit_are_taken_in_the_order_of_the_signature() -> None:
    signature = Signature((X, NAME), ())
    rows, values = fit(
        signature, [Tensor("carrier", "BYTES", (2, 1), encode(["UA", ""])), tensor(shape=(2, 2), raw=bytes(16))]
    )

    assert rows == 2
    assert [(v.datatype, v.shape, v.data) for v in values] == [
        ("FP32", (2, 2), bytes(16)),
        ("BYTES", (2, 1), ["UA", ""]),
    ]


WRONG = [
    (tensor(datatype="FP64"), "the input x must be FP32, not FP64"),
    (tensor(shape=(2,)), "the input x must have the shape [-1, 2], not [2]"),
    (tensor(shape=(1, 3)), "the input x must have the shape [-1, 2], not [1, 3]"),
    (tensor(shape=(0, 2), raw=b""), "the input x must have the shape [-1, 2], not [0, 2]"),
    (tensor(shape=(-1, 2)), "the input x must have the shape [-1, 2], not [-1, 2]"),
    (tensor(raw=bytes(7)), "the input x must have 8 bytes for its shape, not 7"),
    (tensor(shape=(2**40, 2)), "the input x must have 8796093022208 bytes for its shape, not 8"),
    (tensor(name="y"), "the input x is missing (and 1 more)"),
]


@pytest.mark.parametrize(("wrong", "text"), WRONG, ids=[text[:40] for _, text in WRONG])
def test_a_tensor_that_does_not_fit_is_named(wrong: Tensor, text: str) -> None:
    assert refused(Signature((X,), ()), wrong) == text


@pytest.mark.parametrize("shape", [(2, -1), (-1, -1), (0, 1), (2,), (), (2, 1, 1)])
def test_a_size_that_varies_is_still_a_size(shape: tuple[int, ...]) -> None:
    text = refused(Signature((Spec("words", "BYTES", (-1, -1)),), ()), Tensor("words", "BYTES", shape, b""))

    assert text == f"the input words must have the shape [-1, -1], not {list(shape)}"


def test_inputs_must_be_there_once() -> None:
    assert refused(Signature((X,), ())) == "the input x is missing"
    assert refused(Signature((X,), ()), tensor(), tensor()) == "an input comes twice"
    assert refused(Signature((X,), ()), tensor(), tensor(name="z")) == "there is no input z"


def test_inputs_must_have_the_same_number_of_rows() -> None:
    text = refused(Signature((X, NAME), ()), tensor(), Tensor("carrier", "BYTES", (2, 1), encode(["a", "b"])))

    assert text == "the input carrier has 2 rows where others have 1"


def test_a_bool_is_0_or_1() -> None:
    assert fit(Signature((FLAG,), ()), [Tensor("late", "BOOL", (3,), b"\0\1\1")])[0] == 3
    assert "0 or 1" in refused(Signature((FLAG,), ()), Tensor("late", "BOOL", (2,), b"\0\2"))


FRAMES = {
    "nothing": b"",
    "half a length": b"\1\0",
    "no text": struct.pack("<I", 3),
    "half a text": struct.pack("<I", 3) + b"ab",
    "more than it says": struct.pack("<I", 1) + b"ab",
    "a length of 4 GiB": b"\xff\xff\xff\xff",
    "two elements": encode(["a", "b"]),
}


@pytest.mark.parametrize("raw", FRAMES.values(), ids=FRAMES)
def test_broken_framing_is_refused(raw: bytes) -> None:
    text = refused(Signature((NAME,), ()), Tensor("carrier", "BYTES", (1, 1), raw))

    assert text == "the input carrier must have 1 elements, each after its length in 4 bytes"


@pytest.mark.parametrize("data", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80"], ids=["byte", "surrogate", "overlong"])
def test_what_is_not_utf_8_is_refused(data: bytes) -> None:
    raw = struct.pack("<I", len(data)) + data

    assert "UTF-8" in refused(Signature((NAME,), ()), Tensor("carrier", "BYTES", (1, 1), raw))


def test_a_count_of_elements_beyond_the_bytes_costs_nothing() -> None:
    assert "elements" in refused(Signature((NAME,), ()), Tensor("carrier", "BYTES", (2**40, 1), b"\0" * 8))


@given(some.lists(some.text(some.characters(exclude_categories=["Cs"]))))
def test_texts_survive_the_wire(texts: list[str]) -> None:
    assert decode(encode(texts), len(texts)) == texts


@given(some.binary(max_size=64), some.integers(0, 8))
def test_any_bytes_are_texts_or_refused(raw: bytes, count: int) -> None:
    try:
        texts = decode(raw, count)
    except ValueError:
        return
    assert encode(texts) == raw
    assert len(texts) == count


@given(
    some.sampled_from(["FP32", "BYTES", "BOOL", "INT64", "FP16", "", "fp32"]),
    some.lists(some.integers(-(2**63), 2**63 - 1) | some.integers(-1, 3), max_size=4),
    some.binary(max_size=40),
)
def test_any_tensor_fits_or_is_refused(datatype: str, shape: list[int], raw: bytes) -> None:
    signature = Signature((Spec("x", "FP32", (-1, 2)),), ())
    texts = Signature((Spec("x", "BYTES", (-1, -1)),), ())
    given_one = Tensor("x", datatype, tuple(shape), raw)
    for wanted in (signature, texts):
        try:
            rows, (values,) = fit(wanted, [given_one])
        except InvalidValue as refusal:
            assert "x" in refusal.detail
        else:
            assert rows == shape[0] > 0
            assert values.datatype == wanted.inputs[0].datatype
