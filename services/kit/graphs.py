"""The one loader of ONNX graphs: what may be loaded, how it runs, and whether a row's answer depends on its neighbours.

Several services load graphs, and the same file must give the same bytes in each: so the rules, the options of a session
and the check are here. Nothing is ever opened beside the bytes themselves.
"""

from collections.abc import Iterator
from typing import Any

from services.kit.errors import Code, Failure, InvalidValue
from services.kit.tensors import Spec

BATCHES = (1, 2, 7, 17, 64, 1000)
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
# Of the runtime's own operators, which it has built in, the one that hashes texts: the standard has none that does.
_OWN, _HASH = "com.microsoft", "MurmurHash3"
_SEED = 20130101
_WORDS = ("", "a", "JFK", "N14228", "naïve", "a longer piece of text")
# Open Inference Protocol names by ONNX Runtime's, and numpy's beside them.
DATATYPES = {
    "tensor(bool)": ("BOOL", "bool"),
    "tensor(int8)": ("INT8", "int8"),
    "tensor(int16)": ("INT16", "int16"),
    "tensor(int32)": ("INT32", "int32"),
    "tensor(int64)": ("INT64", "int64"),
    "tensor(uint8)": ("UINT8", "uint8"),
    "tensor(uint16)": ("UINT16", "uint16"),
    "tensor(uint32)": ("UINT32", "uint32"),
    "tensor(uint64)": ("UINT64", "uint64"),
    "tensor(float)": ("FP32", "float32"),
    "tensor(double)": ("FP64", "float64"),
    "tensor(string)": ("BYTES", "object"),
}
NUMPY = dict(DATATYPES.values())


def check(data: bytes, name: str = "model.onnx") -> None:
    """Raises unsupported_format for what is no ONNX graph, invalid_value for one that must not be loaded."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError):
        model = onnx.ModelProto()
    if not model.ir_version or not model.graph.output:
        raise Failure(Code.UNSUPPORTED_FORMAT, f"{name} is not an ONNX graph")
    for part in _parts(model):
        if isinstance(part, onnx.TensorProto) and (part.external_data or part.data_location == part.EXTERNAL):
            raise InvalidValue(f"{name} keeps the tensor {part.name[:100]} in another file")
        if getattr(part, "domain", "") not in _DOMAINS and not _hashes(part):
            raise InvalidValue(f"{name} uses operators of {part.domain[:100]}, which are not standard ones")


def _hashes(part: Any) -> bool:
    """Whether it is the operator that hashes, or the line that names the set it is from; no function may pose as it."""
    import onnx

    node = isinstance(part, onnx.NodeProto) and part.op_type == _HASH
    return part.domain == _OWN and (node or isinstance(part, onnx.OperatorSetIdProto))


def _parts(message: Any) -> Iterator[Any]:
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if field.is_repeated else (value,):
                yield part
                yield from _parts(part)


def open_session(data: bytes, name: str = "model.onnx", warn: bool = False) -> Any:
    """A session of a checked graph. One thread: with two, the bytes of a tree ensemble depend on the batch.

    With `warn`, the runtime writes what it dislikes to standard error.
    Raises what `check` raises, and invalid_value when the graph does not load.
    """
    import onnxruntime

    check(data, name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 2 if warn else 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the classes of ONNX Runtime's errors have no common base of their own
        raise InvalidValue(f"{name} does not load: {' '.join(str(error).split())[:300]}") from None


def signature(session: Any, name: str = "model.onnx") -> tuple[tuple[Spec, ...], tuple[Spec, ...]]:
    """What a session takes and gives. Raises invalid_value for what the Open Inference Protocol cannot carry."""
    return tuple(_spec(node, name) for node in session.get_inputs()), tuple(
        _spec(node, name) for node in session.get_outputs()
    )


def _spec(node: Any, name: str) -> Spec:
    if node.type not in DATATYPES:
        raise InvalidValue(f"{name}: {node.name[:100]} has the type {node.type}, which cannot be served")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Spec(node.name, DATATYPES[node.type][0], shape)


def rows(inputs: tuple[Spec, ...], count: int, most: int = 100) -> dict[str, Any]:
    """Seeded random values for that many rows; integers are below `most`. A varying size other than the first is 1."""
    import numpy

    random = numpy.random.default_rng(_SEED)
    found: dict[str, Any] = {}
    for spec in inputs:
        shape = tuple((count if index == 0 else 1) if size < 0 else size for index, size in enumerate(spec.shape))
        if spec.datatype == "BYTES":
            found[spec.name] = random.choice(numpy.array(_WORDS, dtype=object), shape)
        elif spec.datatype in ("FP32", "FP64"):
            found[spec.name] = random.normal(0, 10, shape).astype(NUMPY[spec.datatype])
        else:
            found[spec.name] = random.integers(0, 2 if spec.datatype == "BOOL" else most, shape).astype(
                NUMPY[spec.datatype]
            )
    return found


def batch_invariant(session: Any, inputs: tuple[Spec, ...]) -> bool:
    """Whether rows give the same bytes one by one and in batches of 1, 2, 7, 17, 64 and 1,000.

    False also when it cannot be tried: the number of rows is fixed, or the graph refuses random values.
    """
    if any(not spec.shape or spec.shape[0] >= 0 or min(spec.shape[1:], default=1) < 0 for spec in inputs):
        return False
    for most in (100, 2):  # integers may be indexes into a small table
        values = rows(inputs, BATCHES[-1], most)
        try:
            return _invariant(session, values)
        except Exception:
            continue
    return False


def _invariant(session: Any, values: dict[str, Any]) -> bool:
    import numpy

    alone = [session.run(None, {n: v[i : i + 1] for n, v in values.items()}) for i in range(BATCHES[-1])]
    for size in BATCHES:
        for index, together in enumerate(session.run(None, {n: v[:size] for n, v in values.items()})):
            parts = [one[index] for one in alone[:size]]
            if together.shape[:1] != (size,) or any(part.shape[:1] != (1,) for part in parts):
                return False
            if _bytes(together) != _bytes(numpy.concatenate(parts)):
                return False
    return True


def _bytes(array: Any) -> Any:
    return array.tolist() if array.dtype == object else array.tobytes()
