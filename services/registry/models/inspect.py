"""The child that checks uploaded files before they become a version.

A foreign graph is loaded here and nowhere else before that, so what it does to the process it does to this one.
"""

from pathlib import Path

import orjson
from google.protobuf.json_format import MessageToDict

from aimass.v1.models_pb2 import Signature, TensorSpec
from services.kit import graphs, machine
from services.kit.child import Child, Json
from services.kit.errors import Code, Failure, InvalidValue


def main(request: Json, child: Child) -> Json:
    """Takes `graph`, a path, and `files`, paths by name; returns the signature, readable and packed."""
    for name, path in request["files"].items():
        _check_text(name, Path(path).read_bytes())
    session = graphs.open_session(Path(request["graph"]).read_bytes())
    inputs, outputs = graphs.signature(session)
    signature = Signature(
        inputs=[TensorSpec(**spec._asdict()) for spec in inputs],
        outputs=[TensorSpec(**spec._asdict()) for spec in outputs],
        batch_invariant=graphs.batch_invariant(session, inputs),
        checked_on=machine.checked_on(),
    )
    packed = signature.SerializeToString(deterministic=True).hex()
    return {"signature": MessageToDict(signature, preserving_proto_field_name=True), "packed": packed}


def _check_text(name: str, data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Failure(Code.UNSUPPORTED_FORMAT, f"{name} is not text in UTF-8") from None
    if "\0" in text:
        raise Failure(Code.UNSUPPORTED_FORMAT, f"{name} is not text")
    if name.endswith(".json"):
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            raise InvalidValue(f"{name} is not JSON") from None
