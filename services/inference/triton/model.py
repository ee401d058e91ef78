"""Runs inside Triton's Python back end, beside nothing of ours: one version's graph in ONNX Runtime, one thread.

Inference pushes this file's text together with the graph. Requests that Triton hands over at once run as one where the
version allows it; a request that the graph refuses fails alone.
"""

import json
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the back end looks for by this name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the graph. Raises with one sentence when it does not load or is not what its signature says."""
        config = json.loads(args["model_config"])
        graph = Path(args["model_repository"], args["model_version"], "model.onnx").read_bytes()
        self._joins = int(config.get("max_batch_size", 0)) > 0
        self._session = _open(graph)
        self._inputs = [node.name for node in self._session.get_inputs()]
        # Triton has no tensors without a size: what is one value comes and goes as a row of one.
        self._single = {node.name for node in self._session.get_inputs() if not node.shape}
        signature = [_specs(self._session.get_inputs()), _specs(self._session.get_outputs())]
        if signature != json.loads(config["parameters"]["signature"]["string_value"]):
            raise triton.TritonModelException("the inputs and outputs of the graph must be those of its signature")

    def execute(self, requests: list[Any]) -> list[Any]:
        """An answer for each request, in their order."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for place, request in enumerate(requests):
            names = tuple(request.requested_output_names())
            groups.setdefault(names if self._joins else (*names, str(place)), []).append(place)
        answers: list[Any] = [None] * len(requests)
        for places in groups.values():
            names = tuple(requests[places[0]].requested_output_names())
            given = [self._feeds(requests[place]) for place in places]
            for place, answer in zip(places, self._answer(names, given), strict=True):
                answers[place] = answer
        return answers

    def _answer(self, names: tuple[str, ...], given: list[dict[str, Any]]) -> list[Any]:
        try:
            if len(given) == 1:
                return [_response(names, self._session.run(names, given[0]))]
            return self._together(names, given)
        except Exception as error:  # the classes of ONNX Runtime's errors have no common base of their own
            if len(given) > 1:
                return [answer for one in given for answer in self._answer(names, [one])]
            return [
                triton.InferenceResponse(error=triton.TritonError(str(error)[:500], triton.TritonError.INVALID_ARG))
            ]

    def _together(self, names: tuple[str, ...], given: list[dict[str, Any]]) -> list[Any]:
        feeds = {name: numpy.concatenate([one[name] for one in given]) for name in self._inputs}
        results = self._session.run(names, feeds)
        ends = numpy.cumsum([len(one[self._inputs[0]]) for one in given])
        if any(len(result) != ends[-1] for result in results):
            raise ValueError("an output has other rows than the inputs")
        parts = [numpy.split(result, ends[:-1]) for result in results]
        return [_response(names, list(part)) for part in zip(*parts, strict=True)]

    def _feeds(self, request: Any) -> dict[str, Any]:
        found = {name: _values(triton.get_input_tensor_by_name(request, name)) for name in self._inputs}
        return found | {name: found[name].reshape(()) for name in self._single}


def _open(graph: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise triton.TritonModelException(f"model.onnx does not load: {text}") from None


def _specs(nodes: Any) -> list[Any]:
    return sorted(
        [node.name, node.type, [size if isinstance(size, int) else -1 for size in node.shape]] for node in nodes
    )


def _values(tensor: Any) -> Any:
    array = tensor.as_numpy()
    if array.dtype != object:
        return array
    return numpy.array([data.decode() for data in array.ravel()], dtype=object).reshape(array.shape)


def _response(names: tuple[str, ...], results: list[Any]) -> Any:
    return triton.InferenceResponse(
        [triton.Tensor(name, _bytes(result)) for name, result in zip(names, results, strict=True)]
    )


def _bytes(array: Any) -> Any:
    array = array.reshape(1) if array.ndim == 0 else array
    if array.dtype != object:
        return array
    return numpy.array([text.encode() for text in array.ravel()], dtype=object).reshape(array.shape)
