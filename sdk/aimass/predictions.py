"""Predictions: columns or rows to the Open Inference Protocol and back."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import quote

import orjson

from aimass.calls import unary
from aimass.encoding import document
from aimass.exchange import Answer, Plan, Send, exchange
from aimass.failures import Failure
from aimass.v1 import monitors_pb2

_PORTION = 10_000
_LENGTH = struct.Struct("<I")
_HEADER = "inference-header-content-length"
_NUMPY = {"BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"} | {
    f"{sign}INT{bits}": f"<{kind}{bits // 8}" for sign, kind in (("", "i"), ("U", "u")) for bits in (8, 16, 32, 64)
}


@cache
def _numpy() -> Any:
    """The package, which takes 0.1 s to import; None if it is not installed."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


@dataclass(frozen=True)
class Prediction:
    """An answer: outputs by name (NumPy arrays if NumPy is installed, else lists), and the version that gave it."""

    model: str
    version: int
    digest: str
    request_id: str
    outputs: Mapping[str, Any]

    def __getitem__(self, output: str) -> Any:
        return self.outputs[output]


def columns_of(columns: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """Columns, or rows turned into columns, with None for missing values. Raises TypeError unless one is given."""
    if (columns is None) == (rows is None):
        raise TypeError("predict() needs columns or rows")
    if columns is not None:
        return dict(columns)
    rows = rows or []
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def path_of(model: str, version: int | None) -> str:
    """/v2/models/late/versions/3, or /v2/models/late without a version."""
    if model in ("", ".", ".."):
        raise Failure("invalid_name", f"a model cannot have the name {model!r}")
    return f"/v2/models/{quote(model, safe='')}" + (f"/versions/{version}" if version else "")


def ask(
    model: str,
    version: int | None,
    columns: Mapping[str, Any],
    request_id: str | None,
    known: dict[tuple[str, int | None], dict[str, Any]],
) -> Plan[Prediction]:
    """The plan of a prediction. `known` caches the inputs of models. Raises Failure."""
    takes = known.get((model, version))
    if takes is None or not set(columns) <= {spec["name"] for spec in takes["inputs"]}:
        takes = known[model, version] = yield from metadata(model, version)
    try:
        return (yield from predict(model, version, columns, takes, {"x-request-id": request_id} if request_id else {}))
    except Failure:
        known.pop((model, version), None)  # another version with other inputs may serve by now
        raise


def record(model: str, request_id: str, values: Sequence[float]) -> Plan[monitors_pb2.RecordOutcomesResponse]:
    """The plan that records the outcomes of the rows of a request, in several calls if there are many."""
    outcomes = [{"request_id": request_id, "row": row, "value": float(value)} for row, value in enumerate(values)]
    total = monitors_pb2.RecordOutcomesResponse()
    for start in range(0, len(outcomes), _PORTION):
        part = outcomes[start : start + _PORTION]
        answer = yield from unary("monitors", "record_outcomes", model=model, outcomes=part)
        total.recorded += answer.recorded
        total.known += answer.known
    return total


def metadata(model: str, version: int | None) -> Plan[dict[str, Any]]:
    """The plan that reads the inputs and outputs of a model."""
    answer = yield from exchange(Send("GET", path_of(model, version), headers={"accept": "application/json"}), 30.0)
    found = document(answer.content)
    if not isinstance(found.get("inputs"), list):
        raise Failure("internal", f"the answer does not have the inputs of {model}")
    return found


def predict(
    model: str, version: int | None, columns: Mapping[str, Any], takes: Mapping[str, Any], headers: Mapping[str, str]
) -> Plan[Prediction]:
    """The plan of a prediction with known inputs; tensors are binary if NumPy is installed. Raises Failure."""
    known = {spec["name"]: spec for spec in takes["inputs"]}
    if unknown := sorted(set(columns) - set(known)):
        raise Failure("invalid_value", f"{model} has no input {', '.join(unknown)}; it has {', '.join(known)}")
    head, tail = _encode({name: (known[name], values) for name, values in columns.items()})
    sent = {"content-type": "application/json", **headers}
    if tail:
        sent |= {_HEADER: str(len(head)), "content-type": "application/octet-stream"}
    path = f"{path_of(model, version)}/infer"
    answer = yield from exchange(Send("POST", path, headers=sent, content=head + tail, seconds=60.0), 60.0)
    return _decode(answer)


def _encode(inputs: Mapping[str, tuple[Mapping[str, Any], Any]]) -> tuple[bytes, bytes]:
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for name, (spec, given) in inputs.items():
        values = _seconds(given) if spec["datatype"].startswith("FP") else given
        shape = [len(values) if size == -1 else size for size in spec["shape"]]
        tensor = {"name": name, "datatype": spec["datatype"], "shape": shape}
        if _numpy() is None:
            tensor["data"] = [value for value in values]  # noqa: C416 - any sequence, also one that is no list
        else:
            raw.append(_checked(name, spec["datatype"], values))
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
        described.append(tensor)
    head = {"inputs": described, "parameters": {"binary_data_output": _numpy() is not None}}
    return orjson.dumps(head), b"".join(raw)


def _seconds(values: Any) -> Any:
    """Times as numbers, which is how models take them: in seconds since 1970."""
    return values if hasattr(values, "dtype") else [_second(value) for value in values]


def _second(value: Any) -> Any:
    if isinstance(value, str) and "T" in value:
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return value
        return found.timestamp() if found.tzinfo else value
    return value.timestamp() if isinstance(value, datetime) else value


def _checked(name: str, datatype: str, values: Any) -> bytes:
    try:
        return _bytes(datatype, values)
    except (TypeError, ValueError, OverflowError) as error:
        raise Failure("invalid_value", f"{name} takes {datatype}: {error}") from None


def _bytes(datatype: str, values: Any) -> bytes:
    if datatype == "BYTES":
        texts = [_text(value) for value in values]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    if datatype.startswith("FP") and not hasattr(values, "dtype"):
        values = [float("nan") if value is None else value for value in values]
    array = _numpy().asarray(values)
    if "INT" in datatype and array.dtype.kind == "f" and (array != _numpy().trunc(array)).any():
        raise ValueError("some values are not whole numbers")
    return bytes(_numpy().asarray(values, dtype=_NUMPY[datatype]).tobytes())


def _text(value: Any) -> bytes:
    """A string as bytes; empty for a missing value, which is None, or NaN in data frames."""
    if value is None or (isinstance(value, float) and value != value):
        return b""
    return bytes(value) if isinstance(value, bytes) else str(value).encode()


def _decode(answer: Answer) -> Prediction:
    size = int(answer.headers.get(_HEADER, len(answer.content)))
    head = document(answer.content[:size])
    outputs, at = {}, size
    for tensor in head["outputs"]:
        length = tensor.get("parameters", {}).get("binary_data_size")
        raw = answer.content[at : at + length] if length is not None else None
        at += length or 0
        outputs[tensor["name"]] = _values(tensor, raw)
    version, _, digest = answer.headers.get("model-version", "").partition(";digest=")
    number = int(version or head.get("model_version") or 0)
    return Prediction(head["model_name"], number, digest, answer.headers.get("x-request-id", ""), outputs)


def _values(tensor: Mapping[str, Any], raw: bytes | None) -> Any:
    if raw is None:
        data = tensor["data"]
        if _numpy() is None or tensor["datatype"] == "BYTES":
            return data
        return _numpy().asarray(data, dtype=_NUMPY[tensor["datatype"]]).reshape(tensor["shape"])
    if tensor["datatype"] == "BYTES":
        return _texts(raw)
    return _numpy().frombuffer(raw, dtype=_NUMPY[tensor["datatype"]]).reshape(tensor["shape"])


def _texts(raw: bytes) -> list[str]:
    found, at = [], 0
    while at < len(raw):
        (length,) = _LENGTH.unpack_from(raw, at)
        found.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return found
