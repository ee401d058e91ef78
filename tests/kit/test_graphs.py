import numpy
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from services.kit import graphs
from services.kit.errors import Code, Failure
from services.kit.tensors import Spec
from tests.support import models

FOREIGN = {
    "nothing": b"",
    "zip": b"PK\x03\x04" + b"\0" * 60,
    "pickle": b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 60,
    "numpy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O'}",
    "gzip": b"\x1f\x8b\x08\x00aaaa",
    "tar": b"model.pkl" + b"\0" * 600,
    "text": b"import os; os.system('id')",
    "yaml": b"!!python/object/apply:os.system ['id']",
    "json": b'{"a": 1}',
    "a message without a graph": b"\x08\x09",
    "noise": bytes(range(256)),
}


def code(data: bytes) -> Code:
    with pytest.raises(Failure) as caught:
        graphs.open_session(data)
    return caught.value.code


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_graph_is_refused(data: bytes) -> None:
    assert code(data) is Code.UNSUPPORTED_FORMAT


def test_tensors_in_other_files_are_refused() -> None:
    with pytest.raises(Failure, match="keeps the tensor w in another file") as caught:
        graphs.check(models.external())

    assert caught.value.code is Code.INVALID_VALUE


def hidden_tensor() -> TensorProto:
    tensor = numpy_helper.from_array(numpy.zeros((1, 1), "float32"), "hidden")
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def test_a_constant_in_another_file_is_refused() -> None:
    node = helper.make_node("Constant", [], ["y"], value=hidden_tensor())

    assert code(models.graph([node], [], [models.value("y", models.FLOAT, 1, 1)])) is Code.INVALID_VALUE


def test_a_constant_in_another_file_is_found_in_the_body_of_a_loop() -> None:
    model = ModelProto.FromString(models.slow())
    model.graph.node[0].attribute[0].g.initializer.append(hidden_tensor())

    assert code(model.SerializeToString()) is Code.INVALID_VALUE


def test_operators_of_others_are_refused() -> None:
    with pytest.raises(Failure, match=r"com\.example"):
        graphs.check(models.custom())


def test_operators_of_others_are_found_in_the_body_of_a_loop() -> None:
    model = ModelProto.FromString(models.slow())
    model.graph.node[0].attribute[0].g.node[0].domain = "com.microsoft"

    assert code(model.SerializeToString()) is Code.INVALID_VALUE


def of_the_runtime(operator: str) -> bytes:
    node = helper.make_node(operator, ["x"], ["y"], domain="com.microsoft")
    types = (models.value("x", models.FLOAT, "rows", 1), models.value("y", TensorProto.UINT32, "rows", 1))
    return models.graph([node], [types[0]], [types[1]], domains=("com.microsoft",))


def test_of_the_operators_of_the_runtime_only_the_one_that_hashes_may_be_used() -> None:
    data = of_the_runtime("MurmurHash3")

    graphs.check(data)
    assert graphs.open_session(data).run(None, {"x": numpy.zeros((2, 1), "float32")})[0].shape == (2, 1)
    assert code(of_the_runtime("Tokenizer")) is Code.INVALID_VALUE
    model = ModelProto.FromString(data)
    node = helper.make_node("Identity", ["a"], ["b"])
    function = helper.make_function("com.microsoft", "MurmurHash3", ["a"], ["b"], [node], [helper.make_opsetid("", 17)])
    model.functions.append(function)
    assert code(model.SerializeToString()) is Code.INVALID_VALUE


def test_a_function_of_its_own_domain_is_refused() -> None:
    model = ModelProto.FromString(models.logistic())
    node = helper.make_node("Identity", ["a"], ["b"])
    model.functions.append(helper.make_function("own", "F", ["a"], ["b"], [node], [helper.make_opsetid("", 17)]))

    assert code(model.SerializeToString()) is Code.INVALID_VALUE


def test_a_graph_that_does_not_load_is_refused_with_the_reason() -> None:
    with pytest.raises(Failure, match="NoSuchOperator"):
        graphs.open_session(models.broken())


def test_a_signature_names_types_and_sizes() -> None:
    session = graphs.open_session(models.logistic(columns=3))

    assert graphs.signature(session) == ((Spec("x", "FP32", (-1, 3)),), (Spec("probability", "FP32", (-1, 1)),))


def test_an_output_that_is_no_tensor_cannot_be_served() -> None:
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    output = helper.make_tensor_sequence_value_info("y", models.FLOAT, None)
    session = graphs.open_session(models.graph([node], [models.value("x", models.FLOAT, "rows", 1)], [output]))

    with pytest.raises(Failure, match="cannot be served"):
        graphs.signature(session)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (models.logistic(), True),
        (models.texts(2), True),
        (models.lookup(), True),
        (models.dependent(), False),
    ],
    ids=["logistic", "texts", "a table that most random indexes miss", "depends on its batch"],
)
def test_whether_a_row_depends_on_its_batch_is_found_out(data: bytes, expected: bool) -> None:
    session = graphs.open_session(data)

    assert graphs.batch_invariant(session, graphs.signature(session)[0]) is expected


def test_a_fixed_number_of_rows_is_not_batch_invariant() -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    fixed = [models.value(name, models.FLOAT, 1, 2) for name in ("x", "y")]
    session = graphs.open_session(models.graph([node], fixed[:1], fixed[1:]))

    assert not graphs.batch_invariant(session, graphs.signature(session)[0])


def test_a_graph_that_refuses_every_value_is_not_batch_invariant() -> None:
    session = graphs.open_session(models.lookup(size=1))

    assert not graphs.batch_invariant(session, graphs.signature(session)[0])


def test_random_rows_are_the_same_each_time() -> None:
    inputs = (Spec("a", "FP64", (-1, 2)), Spec("b", "BYTES", (-1,)), Spec("c", "BOOL", (-1, 1)), Spec("d", "INT8", ()))
    first, second = graphs.rows(inputs, 5), graphs.rows(inputs, 5)

    assert [first[spec.name].tolist() for spec in inputs] == [second[spec.name].tolist() for spec in inputs]
    assert [first[spec.name].shape for spec in inputs] == [(5, 2), (5,), (5, 1), ()]
