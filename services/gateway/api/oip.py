"""What the Open Inference Protocol has in common over HTTP and gRPC."""

from typing import Any

from services.gateway.traffic.domain import INFER
from services.kit.auth import Principal
from services.kit.errors import Code, Failure
from services.kit.tensors import Spec

PLATFORM = "onnxruntime_onnx"
DEADLINE = 30.0  # seconds for a prediction when the caller names none


def permit(principal: Principal, model: str) -> None:
    """Raises forbidden for a caller without the permission for predictions of a model."""
    if not principal.may(INFER, f"models/{model}"):
        raise Failure(Code.FORBIDDEN, f"{INFER} is not permitted")


def about(version: str) -> dict[str, Any]:
    """The server, in the protocol's words."""
    return {"name": "aimass", "version": version, "extensions": ["binary_tensor_data"]}


def described(spec: Spec) -> dict[str, Any]:
    """A tensor of a signature, in the protocol's words."""
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
