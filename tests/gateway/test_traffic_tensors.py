import struct

import pytest

from services.gateway.traffic.domain.tensors import Signature, check, scores
from services.kit.errors import Failure
from services.kit.tensors import Spec, Tensor

SIGNATURE = Signature((Spec("age", "FP32", (-1, 1)), Spec("city", "BYTES", (-1, 1))), (Spec("p", "FP32", (-1, 2)),))
AGE = Tensor("age", "FP32", (2, 1), bytes(8))
CITY = Tensor("city", "BYTES", (2, 1), b"\1\0\0\0a\1\0\0\0b")


def refusal(*inputs: Tensor, outputs: tuple[str, ...] = ()) -> tuple[str, list[str]]:
    with pytest.raises(Failure) as caught:
        check(SIGNATURE, inputs, outputs)
    return caught.value.detail, [violation.pointer for violation in caught.value.violations]


def test_what_fits_has_its_rows_counted() -> None:
    assert check(SIGNATURE, [CITY, AGE], ["p"]) == 2


def test_a_wrong_datatype_names_the_input() -> None:
    assert refusal(AGE._replace(datatype="FP64"), CITY) == ("age must be FP32, not FP64", ["/inputs/0"])


def test_a_missing_input_is_named() -> None:
    assert refusal(AGE) == ("the input city is missing", ["/inputs"])


def test_an_extra_input_is_named() -> None:
    assert refusal(AGE, CITY, AGE._replace(name="weight")) == ("the model takes no input weight", ["/inputs/2"])


def test_an_input_that_comes_twice_is_named() -> None:
    assert refusal(AGE, CITY, AGE) == ("the input age comes twice", ["/inputs/2"])


@pytest.mark.parametrize("shape", [(2,), (2, 2), (2, 1, 1), ()])
def test_a_wrong_shape_is_shown_beside_the_right_one(shape: tuple[int, ...]) -> None:
    assert refusal(AGE._replace(shape=shape), CITY)[0] == f"age must have the shape [-1, 1], not {list(shape)}"


def test_no_rows_are_refused() -> None:
    assert refusal(AGE._replace(shape=(0, 1), raw=b""), CITY)[0] == "age must have at least one row"


def test_bytes_that_do_not_fill_the_shape_are_refused() -> None:
    assert refusal(AGE._replace(raw=bytes(9)), CITY)[0] == "age must have 8 bytes for its shape, not 9"


def test_inputs_with_different_rows_are_refused() -> None:
    assert refusal(AGE, CITY._replace(shape=(3, 1)))[0] == "city has 3 rows where age has 2"


def test_an_unknown_output_is_named() -> None:
    assert refusal(AGE, CITY, outputs=("q",)) == ("the model has no output q", ["/outputs"])


def test_every_problem_is_listed() -> None:
    detail, pointers = refusal(AGE._replace(datatype="FP64"), outputs=("q",))

    assert detail == "age must be FP32, not FP64 (and 2 more)"
    assert pointers == ["/inputs/0", "/inputs", "/outputs"]


def test_a_fixed_first_axis_is_one_row() -> None:
    fixed = Signature((Spec("x", "FP32", (3,)),), ())

    assert check(fixed, [Tensor("x", "FP32", (3,), bytes(12))], []) == 1


def test_scores_are_the_last_column_of_the_first_floating_output() -> None:
    label = Tensor("label", "INT64", (2,), bytes(16))
    classes = Tensor("p", "FP32", (2, 2), struct.pack("<4f", 0.75, 0.25, 0.5, 0.5))

    assert struct.unpack("<2d", scores([label, classes], 1024)) == (0.25, 0.5)


def test_scores_are_at_most_so_many() -> None:
    column = Tensor("p", "FP64", (5,), struct.pack("<5d", *range(5)))

    assert struct.unpack("<3d", scores([column], 3)) == (0, 1, 2)


def test_without_a_floating_output_there_are_no_scores() -> None:
    assert scores([Tensor("label", "INT64", (2,), bytes(16))], 9) == b""


@pytest.mark.parametrize(("datatype", "form"), [("FP32", "f"), ("FP64", "d")])
@pytest.mark.parametrize("columns", [1, 3])
def test_the_score_of_one_row_is_its_last_value(datatype: str, form: str, columns: int) -> None:
    values = [0.25 * place for place in range(columns)]
    one = Tensor("p", datatype, (1, columns), struct.pack(f"<{columns}{form}", *values))

    assert scores([one], 1024) == struct.pack("<d", values[-1])
