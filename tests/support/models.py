"""Small ONNX graphs, and how one becomes a version of a model."""

from functools import cache
from typing import Any

import numpy
from google.api.httpbody_pb2 import HttpBody
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from aimass.v1 import artifacts_pb2, models_pb2, uploads_pb2
from aimass.v1.artifacts_pb2_grpc import ArtifactsStub
from aimass.v1.models_pb2_grpc import ModelsStub
from services.kit import graphs, machine
from services.kit.digests import digest_of
from services.kit.errors import Code, Failure
from tests.support.house import House

FLOAT, STRING, INT64 = TensorProto.FLOAT, TensorProto.STRING, TensorProto.INT64


def value(name: str, kind: int, *shape: int | str) -> ValueInfoProto:
    """An input or output; a text in the shape is a size that varies."""
    return helper.make_tensor_value_info(name, kind, shape)


def graph(
    nodes: list[NodeProto],
    inputs: list[ValueInfoProto],
    outputs: list[ValueInfoProto],
    constants: dict[str, Any] | None = None,
    domains: tuple[str, ...] = (),
) -> bytes:
    """The bytes of a model."""
    tensors = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    made = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    return helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()


def logistic(columns: int = 4, seed: int = 0) -> bytes:
    """`x` [rows, columns] FP32 -> `probability` [rows, 1] FP32: MatMul, Add, Sigmoid."""
    weights = numpy.random.default_rng(seed).normal(size=(columns, 1)).astype("float32")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["s"]),
        helper.make_node("Sigmoid", ["s"], ["probability"]),
    ]
    constants = {"w": weights, "b": numpy.array([0.1 * seed], dtype="float32")}
    return graph(nodes, [value("x", FLOAT, "rows", columns)], [value("probability", FLOAT, "rows", 1)], constants)


def texts(columns: int = 1) -> bytes:
    """`s0`, `s1` ... [rows, 1] BYTES -> `t0`, `t1` ... the same."""
    names = [(f"s{index}", f"t{index}") for index in range(columns)]
    nodes = [helper.make_node("Identity", [taken], [given]) for taken, given in names]
    taken = [value(name, STRING, "rows", 1) for name, _ in names]
    return graph(nodes, taken, [value(name, STRING, "rows", 1) for _, name in names])


def lookup(size: int = 5) -> bytes:
    """`i` [rows] INT64 below `size` -> `v` [rows] FP32; a larger index fails when it runs."""
    node = helper.make_node("Gather", ["table", "i"], ["v"])
    table = numpy.arange(size, dtype="float32") / 4
    return graph([node], [value("i", INT64, "rows")], [value("v", FLOAT, "rows")], {"table": table})


def dependent() -> bytes:
    """`x` [rows, 1] FP32 -> `y`: each value less the mean of its batch; not batch-invariant."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    return graph(nodes, [value("x", FLOAT, "rows", 1)], [value("y", FLOAT, "rows", 1)])


def slow(steps: int = 30_000) -> bytes:
    """`x` [rows, 1] FP32 -> `y`: itself after that many steps of a loop; takes some milliseconds a call."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Neg", ["state"], ["next"])],
        "body",
        [value("step", INT64), value("on", TensorProto.BOOL), value("state", FLOAT, "rows", 1)],
        [value("still", TensorProto.BOOL), value("next", FLOAT, "rows", 1)],
    )
    node = helper.make_node("Loop", ["steps", "on", "x"], ["y"], body=body)
    constants = {"steps": numpy.array(steps // 2 * 2, dtype="int64"), "on": numpy.array(True)}
    return graph([node], [value("x", FLOAT, "rows", 1)], [value("y", FLOAT, "rows", 1)], constants)


def broken() -> bytes:
    """A graph that does not load: its node has no such operator."""
    node = helper.make_node("NoSuchOperator", ["x"], ["y"])
    return graph([node], [value("x", FLOAT, "rows", 1)], [value("y", FLOAT, "rows", 1)])


def custom() -> bytes:
    """A graph with an operator of a domain of its own."""
    node = helper.make_node("Shell", ["x"], ["y"], domain="com.example")
    return graph([node], [value("x", FLOAT, "rows", 1)], [value("y", FLOAT, "rows", 1)], domains=("com.example",))


def external(location: str = "../../etc/passwd") -> bytes:
    """A graph whose weights lie in another file."""
    model = ModelProto.FromString(logistic())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model.SerializeToString()


@cache
def signature(data: bytes) -> models_pb2.Signature:
    """What a trainer would say of a graph; one that is slow on purpose is not tried in batches."""
    session = graphs.open_session(data)
    inputs, outputs = graphs.signature(session)
    return models_pb2.Signature(
        inputs=[models_pb2.TensorSpec(**spec._asdict()) for spec in inputs],
        outputs=[models_pb2.TensorSpec(**spec._asdict()) for spec in outputs],
        batch_invariant=data.find(b"Loop") < 0 and graphs.batch_invariant(session, inputs),
        checked_on=machine.checked_on(),
    )


async def upload(house: House, data: bytes, tenant: str = "acme") -> str:
    """Uploads bytes; returns their digest."""
    stub, size = house.stub(ArtifactsStub, "registry", tenant=tenant), 2**20
    upload = (await stub.CreateArtifactUpload(uploads_pb2.CreateUploadRequest())).upload
    for offset in range(0, len(data), size):
        body = HttpBody(data=data[offset : offset + size])
        await stub.WriteArtifactUpload(uploads_pb2.WriteUploadRequest(upload=upload, offset=offset, body=body))
    done = await stub.CommitArtifactUpload(uploads_pb2.CommitUploadRequest(upload=upload, digest=digest_of(data)))
    return str(done.digest)


async def register(
    house: House,
    model: str,
    data: bytes,
    tenant: str = "acme",
    serving: models_pb2.ServingSettings | None = None,
    labels: dict[str, str] | None = None,
) -> int:
    """Uploads a graph and adds it as a version, making the model if need be; returns the version's number."""
    models = house.stub(ModelsStub, "registry", tenant=tenant)
    try:
        await models.CreateModel(models_pb2.CreateModelRequest(model=model))
    except Failure as failure:
        if failure.code is not Code.ALREADY_EXISTS:
            raise
    file = artifacts_pb2.ArtifactFile(name="model.onnx", digest=await upload(house, data, tenant))
    request = models_pb2.CreateModelVersionRequest(model=model, files=[file], serving=serving, labels=labels)
    return int((await models.CreateModelVersion(request)).version)
