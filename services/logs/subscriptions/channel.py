"""Port: a channel through which the receiver of a subscription gets its messages."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from services.logs.subscriptions.store import Due


class Answer(NamedTuple):
    """The result of a try: the receiver's status or 0, an error, and the new state of the delivery."""

    status: int
    error: str
    state: str


class Channel(Protocol):
    """Sends deliveries to the addresses of one or more URL schemes."""

    async def check(self, address: str) -> None:
        """Raises invalid_value for an address that it cannot use, egress_denied for one that may not be reached."""

    async def send(self, due: Due) -> Answer:
        """Tries once; the delivery's id is the same in each try. Failures of the receiver are results, not raised."""


class Channels:
    """The channels of the log centre."""

    def __init__(self, otherwise: Channel, by_scheme: Mapping[str, Channel] | None = None) -> None:
        """`otherwise` is for addresses whose scheme has no channel of its own."""
        self._otherwise, self._by_scheme = otherwise, by_scheme or {}

    def of(self, address: str) -> Channel:
        """The channel of an address."""
        return self._by_scheme.get(address.partition(":")[0].lower(), self._otherwise)
