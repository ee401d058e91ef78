"""The gRPC call that a task answers: what its caller sent, and what was found out about it since."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from services.gateway.charging import Charge
from services.gateway.receipts import Receipt
from services.kit.auth import Principal


@dataclass(slots=True)
class GrpcCall:
    """One call. What is found out is for its handler, its receipt, and its line in the access log."""

    path: str
    metadata: Mapping[str, str]
    # The other end of the connection, as gRPC names it.
    peer: str = ""
    # The client certificate of the connection, as DER; empty for none.
    certificate: Callable[[], bytes] = lambda: b""
    # Its one message; empty for a stream of them.
    content: bytes = b""
    # Both empty until its caller is known.
    principal: Principal | None = None
    request_id: str = ""
    # The model and version that it asks for, and then the version that answered.
    model: str = ""
    version: str = ""
    # What answered in place of that version.
    degraded: str = ""
    # What it has taken from buckets.
    charge: Charge | None = None
    # What makes its receipt, if it asks for one.
    receipt: Receipt | None = None


current: ContextVar[GrpcCall] = ContextVar("grpc_call")
