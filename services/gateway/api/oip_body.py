"""Bodies of the Open Inference Protocol over HTTP: requests and answers, JSON with or without binary parts."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from services.gateway.api.oip_values import dump, pack, unpack, wrong
from services.gateway.traffic.service import Prediction
from services.kit.errors import Code, Failure
from services.kit.tensors import Tensor

_REQUEST = frozenset({"id", "parameters", "inputs", "outputs"})
_INPUT = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT = frozenset({"name", "parameters"})
_REFUSED = ("shared_memory_region", "classification")
_MOST = 2**63 - 1
_AXES = 8


class Asked(NamedTuple):
    """An inference request as it came."""

    id: str | None
    inputs: list[Tensor]
    outputs: list[str]
    # Names of the outputs that go out as bytes; None stands for all the others.
    binary: Mapping[str | None, bool]


class Encoded(NamedTuple):
    """An answer as it goes out; `json_size` is 0 when there are no binary parts."""

    body: bytes
    json_size: int


def decode(body: bytes, json_size: int | None) -> Asked:
    """A request; with `json_size`, what follows its JSON are the values of the inputs that say so.

    Raises malformed_json, bad_framing, or invalid_value with where.
    """
    size = len(body) if json_size is None else json_size
    if not 0 < size <= len(body):
        raise Failure(Code.BAD_FRAMING, f"the JSON part cannot have {size} bytes in a body of {len(body)}")
    document = _object(_parse(body[:size]), _REQUEST, "")
    parameters = _parameters(document, "")
    inputs: Any = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise wrong("inputs must be a list with at least one tensor", "/inputs")
    asked = document.get("id")
    if asked is not None and (not isinstance(asked, str) or len(asked) > 256):
        raise wrong("id must be a string of at most 256 characters", "/id")
    names, binary = _outputs(document.get("outputs", []))
    binary[None] = parameters.get("binary_data_output") is True
    return Asked(asked, _Inputs(body, size).read(inputs), names, binary)


def _parse(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Failure(Code.MALFORMED_JSON, f"the body is not JSON: {str(error)[:100].lower()}") from None


def _object(value: Any, known: frozenset[str], at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong(f"{at or 'the body'} must be an object", at)
    if not value.keys() <= known:
        name = str(min(value.keys() - known))[:64]
        raise wrong(f"there is no field {name}", f"{at}/{name}")
    return value


def _parameters(part: dict[str, Any], at: str) -> dict[str, Any]:
    found = part.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise wrong("parameters must be an object", f"{at}/parameters")
    for name in _REFUSED:
        if name in found:
            raise wrong(f"the parameter {name} is not supported", f"{at}/parameters/{name}")
    return found


def _name(part: dict[str, Any], at: str) -> str:
    name = part.get("name")
    if not isinstance(name, str) or not name or len(name) > 128:
        raise wrong("name must be a string of 1 to 128 characters", f"{at}/name")
    return name


def _outputs(parts: Any) -> tuple[list[str], dict[str | None, bool]]:
    if not isinstance(parts, list):
        raise wrong("outputs must be a list", "/outputs")
    names: list[str] = []
    binary: dict[str | None, bool] = {}
    for index, part in enumerate(parts):
        at = f"/outputs/{index}"
        name = _name(_object(part, _OUTPUT, at), at)
        names.append(name)
        parameters = _parameters(part, at)
        if "binary_data" in parameters:
            binary[name] = parameters["binary_data"] is True
    return names, binary


class _Inputs:
    """Reads inputs, and behind the JSON the bytes of those that are binary, in their order."""

    def __init__(self, body: bytes, at: int) -> None:
        self._body, self._at = body, at

    def read(self, parts: Sequence[Any]) -> list[Tensor]:
        tensors = [self._tensor(_object(part, _INPUT, f"/inputs/{i}"), f"/inputs/{i}") for i, part in enumerate(parts)]
        if self._at != len(self._body):
            raise Failure(Code.BAD_FRAMING, f"{len(self._body) - self._at} bytes follow the last input")
        return tensors

    def _tensor(self, part: dict[str, Any], at: str) -> Tensor:
        name, datatype = _name(part, at), part.get("datatype")
        shape: Any = part.get("shape")
        sizes = isinstance(shape, list) and len(shape) <= _AXES
        if not sizes or not all(type(size) is int and 0 <= size <= _MOST for size in shape):
            raise wrong(f"the shape of {name} must be a list of at most {_AXES} sizes", f"{at}/shape")
        if not isinstance(datatype, str):
            raise wrong(f"the datatype of {name} must be a string", f"{at}/datatype")
        size = _parameters(part, at).get("binary_data_size")
        if size is None:
            raw = pack(name, datatype, shape, part.get("data"), at)
        elif "data" in part:
            raise wrong(f"{name} has both data and binary_data_size", f"{at}/data")
        else:
            raw = self._next(name, size)
        return Tensor(name, datatype, tuple(shape), raw)

    def _next(self, name: str, size: Any) -> bytes:
        if type(size) is not int or size < 0 or self._at + size > len(self._body):
            raise Failure(Code.BAD_FRAMING, f"the body does not hold the {str(size)[:20]} bytes of {name}")
        self._at += size
        return self._body[self._at - size : self._at]


def encode(asked: Asked, prediction: Prediction) -> Encoded:
    """An answer, each output as its request wants it."""
    binary: list[bytes] = []
    pinned = prediction.pinned
    text, between = [_beginning(pinned.model, pinned.version.number)], b""
    for tensor in prediction.outputs:
        about = _about(tensor.name, tensor.datatype, tensor.shape)
        if asked.binary.get(tensor.name, asked.binary[None]):
            binary.append(tensor.raw)
            text += (between, about, b'"parameters":{"binary_data_size":%d}}' % len(tensor.raw))
        else:
            text += (between, about, b'"data":', dump(unpack(tensor)), b"}")
        between = b","
    text.append(b"]}" if asked.id is None else b'],"id":%b}' % dump(asked.id))
    whole = b"".join(text)
    return Encoded(b"".join((whole, *binary)), len(whole)) if binary else Encoded(whole, 0)


@lru_cache(maxsize=4096)
def _beginning(model: str, number: int) -> bytes:
    """The beginning of all answers of a version."""
    return dump({"model_name": model, "model_version": str(number)})[:-1] + b',"outputs":['


@lru_cache(maxsize=4096)
def _about(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    """The beginning of an output, up to its values."""
    return dump({"name": name, "datatype": datatype, "shape": shape})[:-1] + b","
