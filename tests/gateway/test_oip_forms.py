"""A body whose form is known says the same as one that is read in full."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.api.oip_body import Asked, decode
from services.gateway.api.oip_forms import Forms
from services.gateway.traffic.domain.tensors import Fit, Signature
from services.kit.errors import Failure, InvalidValue
from services.kit.tensors import Spec, Tensor

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
DATA = st.recursive(
    NUMBERS | st.none() | st.booleans() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=4), max_leaves=9
)


def body(data: Any, **also: Any) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": data}
    return json.dumps({"inputs": [tensor], **also}, separators=(",", ":")).encode()


def told(read: Any, content: bytes) -> Any:
    try:
        asked = read(content)
    except Failure as failure:
        return failure.code, failure.detail, getattr(failure, "violations", None)
    return repr(asked)


def in_full(content: bytes) -> Asked:
    return decode(content, None)


@given(DATA, st.sampled_from([{}, {"outputs": [{"name": "y"}]}, {"parameters": {"binary_data_output": True}}]))
def test_a_known_form_changes_no_answer(data: Any, also: dict[str, Any]) -> None:
    forms = Forms(None)
    forms.decode(body([1, 2, 3, 4], **also))

    assert told(lambda content: forms.decode(content)[0], body(data, **also)) == told(in_full, body(data, **also))


@given(st.integers(0, 2**32))
def test_a_body_with_a_wrong_byte_is_refused_as_if_it_were_the_first(seed: int) -> None:
    forms, rng = Forms(None), random.Random(seed)
    forms.decode(body([1, 2, 3, 4]))
    broken = bytearray(body([[5, 6.5], [7, 8e3]]))
    for _ in range(rng.randint(1, 3)):
        broken[rng.randrange(len(broken))] = rng.choice(b'{}[]",:0e-. \\ndat')

    assert told(lambda content: forms.decode(content)[0], bytes(broken)) == told(in_full, bytes(broken))


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [1.5, -2e-3, 3, 4]])
def test_other_values_of_the_same_form_are_known_to_fit(data: Any) -> None:
    forms = Forms(None)
    assert forms.decode(body([9, 9, 9, 9]))[1] is None

    asked, fit = forms.decode(body(data))

    assert isinstance(fit, Fit)
    assert asked == in_full(body(data))


def test_another_form_takes_the_place_of_the_last() -> None:
    forms, other = Forms(None), body([1, 2, 3, 4], outputs=[{"name": "y"}])
    forms.decode(body([1, 2, 3, 4]))

    assert forms.decode(other)[1] is None
    assert forms.decode(other)[1] is not None
    assert forms.decode(other)[0].outputs == ["y"]


@pytest.mark.parametrize(
    "content",
    [
        body([1, 2, 3, 4], id="seven"),
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1],"data":[2]}]}',
        b'{"inputs":[{"name":"x","parameters":{"data":[1]},"datatype":"FP32","shape":[1],"data":[2]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]},'
        b'{"name":"y","datatype":"FP32","shape":[1],"data":[1]}]}',
        b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1],"data":["[1]"]}]}',
    ],
    ids=["an id", "data twice", "data elsewhere", "two inputs", "texts"],
)
def test_what_cannot_be_told_for_sure_is_read_in_full_each_time(content: bytes) -> None:
    forms = Forms(None)

    assert [forms.decode(content)[1] for _ in range(3)] == [None] * 3


def test_a_part_behind_the_json_is_never_guessed() -> None:
    head = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}'
    forms = Forms(len(head))

    assert [forms.decode(head + bytes(4))[1] for _ in range(2)] == [None, None]


def test_what_fits_one_version_is_asked_again_for_another() -> None:
    fit, inputs = Fit(), [Tensor("x", "FP32", (3, 2), bytes(24))]
    takes = Signature((Spec("x", "FP32", (-1, 2)),), ())
    refuses = Signature((Spec("x", "FP64", (-1, 2)),), ())

    assert [fit.check(takes, inputs, ()) for _ in range(2)] == [3, 3]
    with pytest.raises(InvalidValue):
        fit.check(refuses, inputs, ())
    with pytest.raises(InvalidValue):
        fit.check(refuses, inputs, ())
    assert fit.check(takes, inputs, ()) == 3
