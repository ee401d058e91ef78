"""The client of AI Mass: `aimass.Client`, `aimass.AsyncClient`, and the messages of the contract in `aimass.v1`.

Names are imported on first use: the servers need only the messages, and nothing else is loaded for them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimass.async_client import AsyncClient
    from aimass.client import Client
    from aimass.failures import Failure, Violation
    from aimass.operations import AsyncOperationHandle, OperationHandle
    from aimass.predictions import Prediction
    from aimass.receipts import Receipt
    from aimass.scales import unscale
    from aimass.signing import Signer

__version__ = "0.1.0"
__all__ = [
    "AsyncClient",
    "AsyncOperationHandle",
    "Client",
    "Failure",
    "OperationHandle",
    "Prediction",
    "Receipt",
    "Signer",
    "Violation",
    "unscale",
]
_HOMES = {
    "AsyncClient": "async_client",
    "AsyncOperationHandle": "operations",
    "Client": "client",
    "Failure": "failures",
    "OperationHandle": "operations",
    "Prediction": "predictions",
    "Receipt": "receipts",
    "Signer": "signing",
    "Violation": "failures",
    "unscale": "scales",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aimass' has no attribute {name!r}")
    return getattr(importlib.import_module(f"aimass.{_HOMES[name]}"), name)
