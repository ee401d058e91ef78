"""How far those are behind that follow data sets: for the service itself, of all tenants alike."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from services.kit.auth import Scope


class Followed(NamedTuple):
    """A version of a data set that somebody has, of which he wants the next ones."""

    scope: Scope
    data_set: str
    version: int


class Behind(NamedTuple):
    """How many versions are newer, and since when the first of them is there."""

    versions: int
    since: datetime | None = None


class Following(Protocol):
    """The question."""

    async def behind(self, followed: Sequence[Followed]) -> list[Behind | None]:
        """Of each; None for a data set that is deleted or not there. Raises unavailable."""
