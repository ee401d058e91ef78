"""Port: a way to tell a receiver of a subscription."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from services.logs.subscriptions.store import Due


class Answer(NamedTuple):
    """How a try ended: the status that the receiver answered or 0, what went wrong, and the state that follows."""

    status: int
    error: str
    state: str


class Channel(Protocol):
    """Addresses are URLs; their scheme says which channel they are for."""

    async def check(self, address: str) -> None:
        """Raises invalid_value for what is no address of it, egress_denied for one that may not be reached."""

    async def send(self, due: Due) -> Answer:
        """One try; `delivery` in it is the same in each. Raises nothing that the receiver is the cause of."""


class Channels:
    """The channels of the log centre."""

    def __init__(self, otherwise: Channel, by_scheme: Mapping[str, Channel] | None = None) -> None:
        """`otherwise` is for the addresses of no other."""
        self._otherwise, self._by_scheme = otherwise, by_scheme or {}

    def of(self, address: str) -> Channel:
        """The channel that an address is for."""
        return self._by_scheme.get(address.partition(":")[0].lower(), self._otherwise)
