"""The cache of small shared values, which may be lost: shared token buckets, leases, values with an expiry.

This module has the port, and the near adapter for one process.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from services.kit.allowance import Claim, Grant, Pot, claim_all
from services.kit.errors import Unavailable

_PRUNE_EVERY = 60.0  # seconds


class Cache(Protocol):
    """Values by name. Any text is a valid name. Times are seconds by the clock of the cache.

    Every call raises unavailable: soon if the cache does not answer, at once if it is known not to.
    """

    # Whether it is in this process, not shared, and always available.
    near: bool

    @property
    def up(self) -> bool:
        """Whether it is not known to be unavailable."""

    @property
    def born(self) -> float:
        """Unix seconds since when no value was lost before its expiry, as of the last answer."""

    @property
    def away_since(self) -> float | None:
        """Unix seconds, by our clock, of the first of the present failures; None if calls succeed."""

    async def start(self) -> None:
        """Connects, or continues without a connection. Raises ConfigError for an unsuitable server."""

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, seconds: float) -> None: ...

    async def delete(self, key: str) -> None: ...

    async def add(self, key: str, seconds: float) -> bool:
        """Adds a key; False if it is there already. `born` is then at least as new as this answer."""

    async def announce(self, group: str, member: str, value: bytes, seconds: float) -> None:
        """Sets the value of a member of a group, until it expires. To be repeated before that."""

    async def withdraw(self, group: str, member: str) -> None: ...

    async def members(self, group: str) -> dict[str, bytes]:
        """The members of a group, with their values."""

    async def take(self, key: str, claim: Claim) -> Grant:
        """A slice of a shared token bucket, which is full when it is first used."""

    async def take_all(self, claims: Sequence[tuple[str, Claim]]) -> list[Grant]:
        """Slices of several shared token buckets, or none if one of them has too few tokens."""

    async def close(self) -> None: ...


class NearCache:
    """The cache in the memory of this process."""

    near = True
    up = True
    away_since = None

    def __init__(self, clock: Callable[[], float] = time.time, most: int = 100_000) -> None:
        """`clock` returns Unix seconds; at most `most` names of each kind are stored."""
        self._clock, self._most = clock, most
        self._pruned = self.born = clock()
        self._values: dict[str, tuple[bytes, float]] = {}
        self._members: dict[str, dict[str, tuple[bytes, float]]] = {}
        self._pots: dict[str, tuple[Pot, float, float]] = {}

    async def start(self) -> None:
        """Does nothing."""

    async def get(self, key: str) -> bytes | None:
        value, until = self._values.get(f"v{key}", (None, 0.0))
        return value if until > self._clock() else None

    async def set(self, key: str, value: bytes, seconds: float) -> None:
        self._keep(f"v{key}", value, seconds)

    async def delete(self, key: str) -> None:
        self._values.pop(f"v{key}", None)

    async def add(self, key: str, seconds: float) -> bool:
        if self._values.get(f"a{key}", (b"", 0.0))[1] > self._clock():
            return False
        self._keep(f"a{key}", b"", seconds)
        return True

    async def announce(self, group: str, member: str, value: bytes, seconds: float) -> None:
        self._members.setdefault(group, {})[member] = value, self._clock() + seconds

    async def withdraw(self, group: str, member: str) -> None:
        self._members.get(group, {}).pop(member, None)

    async def members(self, group: str) -> dict[str, bytes]:
        now = self._clock()
        live = {member: entry for member, entry in self._members.get(group, {}).items() if entry[1] > now}
        self._members[group] = live
        return {member: value for member, (value, _) in live.items()}

    async def take(self, key: str, claim: Claim) -> Grant:
        return (await self.take_all([(key, claim)]))[0]

    async def take_all(self, claims: Sequence[tuple[str, Claim]]) -> list[Grant]:
        self._prune()
        now, asked = self._clock(), []
        for key, claim in claims:
            known = self._pots.get(key)
            pot = known[0] if known else Pot(claim.burst, now)
            self._pots[key] = pot, claim.rate, claim.burst
            asked.append((pot, claim))
        return claim_all(asked, now, str(self.born))

    async def close(self) -> None:
        """Does nothing."""

    def _keep(self, key: str, value: bytes, seconds: float) -> None:
        self._prune()
        if key not in self._values and len(self._values) >= self._most:
            # Dropping a value before its expiry would allow a replay.
            raise Unavailable(f"the cache is full: it has {self._most} values", retry_after=_PRUNE_EVERY)
        self._values[key] = value, self._clock() + seconds

    def _prune(self) -> None:
        now = self._clock()
        full = max(len(self._values), len(self._pots)) >= self._most
        if not full and now - self._pruned < _PRUNE_EVERY:
            return
        self._pruned = now
        self._values = {key: kept for key, kept in self._values.items() if kept[1] > now}
        self._pots = {k: pot for k, pot in self._pots.items() if not pot[0].idle(pot[1], pot[2], now)}
