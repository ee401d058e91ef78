"""Port: a Triton server, as loading and calling need it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.inference.domain.tensors import Values


class Gone(Exception):
    """The server does not have the version."""


class Broken(Gone):
    """The server has the version and cannot run it any more: the process that ran it has died."""


class Refused(Exception):
    """The graph cannot compute with these values."""


class Server(Protocol):
    """One server. Its failures become ours; its texts are never shown to callers of a model."""

    # When it last answered something, on the monotonic clock.
    answered: float

    async def alive(self, seconds: float) -> bool:
        """Whether it answers within that time."""

    async def loaded(self) -> set[str]:
        """The names of the versions it has. Raises unavailable."""

    async def parameter(self, name: str, parameter: str) -> str:
        """What the description of a version that is ready says; empty when it is not there. Raises unavailable."""

    async def load(self, name: str, config: str, files: Mapping[str, bytes]) -> None:
        """Raises invalid_value with the reason when it does not load, deadline_exceeded, unavailable."""

    async def unload(self, name: str) -> None:
        """Lets go of a version once what is under way has ended. Raises Gone, unavailable."""

    async def infer(
        self, name: str, inputs: Sequence[tuple[str, Values]], outputs: Sequence[str], seconds: float
    ) -> dict[str, Values]:
        """The outputs by name. Raises Refused, Gone, unavailable, deadline_exceeded."""

    async def watch(self) -> None:
        """Keeps the connection fit for ever."""

    async def close(self) -> None:
        """Ends the connection."""
