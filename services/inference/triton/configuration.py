"""How a version is described to Triton: the fields are those of its model configuration."""

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

import orjson

from services.inference.domain import batches
from services.inference.domain.engines import Released
from services.inference.domain.tensors import Signature
from services.kit import graphs
from services.kit.tensors import Spec

PYTHON, ONNX = "python", "onnxruntime"  # Triton's names of back ends
_ROWS = 1024  # of one call, where the version says nothing
_ONNX_TYPES = {datatype: kind for kind, (datatype, _) in graphs.DATATYPES.items()}


class Description(NamedTuple):
    """A version for a back end."""

    # The model configuration as JSON.
    config: str
    # What stands in it to know it again by: graph, settings and our program.
    digest: str
    # Rows of one call; 0: no bound, and Triton puts no requests together.
    rows: int


def describe(name: str, released: Released, backend: str) -> Description:
    """Rows are put together by Triton where that cannot be seen in the answers, as everywhere."""
    signature, serving = released.signature, released.serving
    joins = joined(signature)
    rows = (serving.max_batch_rows or _ROWS) if joins else 0
    config: dict[str, Any] = {
        "name": name,
        "backend": backend,
        "max_batch_size": rows,
        "input": [_tensor(spec, joins) for spec in signature.inputs],
        "output": [_tensor(spec, joins) for spec in signature.outputs],
        "instance_group": [{"kind": "KIND_CPU", "count": serving.instances or 1}],
    }
    if joins:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": serving.batch_delay_us}
    parameters = {"signature": orjson.dumps([_plain(signature.inputs), _plain(signature.outputs)]).decode()}
    if backend == ONNX:
        parameters |= {"intra_op_thread_count": "1", "inter_op_thread_count": "1", "execution_mode": "0"}
    digest = hashlib.sha256(orjson.dumps([config, parameters, released.digest, program().decode()])).hexdigest()
    config["parameters"] = {key: {"string_value": text} for key, text in (parameters | {"digest": digest}).items()}
    return Description(orjson.dumps(config).decode(), digest, rows)


def joined(signature: Signature) -> bool:
    """Whether Triton may put requests together: rows come first in everything, and a row's answer is its own."""
    return batches.joinable(signature) and all(spec.shape[:1] == (-1,) for spec in signature.outputs)


def program() -> bytes:
    """What the Python back end runs."""
    return resources.files("services.inference.triton").joinpath("model.py").read_bytes()


def shape_there(shape: tuple[int, ...], joins: bool) -> tuple[int, ...]:
    """Triton's shape of a tensor: it wants at least one size, beside the rows where it puts requests together."""
    return (*shape, 1) if len(shape) == joins else shape


def shape_here(spec: Spec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Our shape of what Triton gives for an output."""
    return shape[:-1] if len(shape) == len(spec.shape) + 1 and shape[-1] == 1 else shape


def _tensor(spec: Spec, joins: bool) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    sizes = list(spec.shape[joins:])
    found: dict[str, Any] = {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": sizes or [1]}
    return found if sizes or not joins else found | {"reshape": {"shape": []}}


def _plain(specs: Sequence[Spec]) -> list[Any]:
    return sorted([spec.name, _ONNX_TYPES[spec.datatype], list(spec.shape)] for spec in specs)
