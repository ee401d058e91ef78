"""Port: what runs a model."""

from collections.abc import Sequence
from typing import Protocol

from services.inference.domain.tensors import Signature, Values


class Engine(Protocol):
    """A loaded version, warmed up."""

    # What was found when it was loaded; `batch_invariant` holds for this machine.
    signature: Signature
    # Seconds that a call with 64 rows takes here.
    seconds: float

    def run(self, inputs: Sequence[Values], outputs: Sequence[str]) -> list[Values]:
        """Values by input in the order of the signature -> those of the named outputs. Blocks; may be called at once by
        several threads. Raises anything when the graph refuses the values."""


class Loader(Protocol):
    """Makes engines."""

    def load(self, data: bytes, signature: Signature) -> Engine:
        """An engine for a graph. Blocks. Raises Failure with the reason when it cannot serve."""
