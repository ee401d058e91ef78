"""Small shared values: shared buckets, leases, what is remembered for a while. This module holds the port and its near
adapter, for one process. Nothing in it has to be there tomorrow: what must not be lost is in a database.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from services.kit.allowance import Claim, Grant, Pot, claim_all
from services.kit.errors import Unavailable

_PRUNE_EVERY = 60.0  # seconds


class Cache(Protocol):
    """Values by name. Any text is a safe name. Times are seconds by the clock of the cache.

    Every call raises unavailable soon when the cache is away, and at once when it is known to be.
    """

    # Whether it is this process's own: then there is nobody to share with, and it is never away.
    near: bool

    @property
    def up(self) -> bool:
        """Whether calls are tried."""

    @property
    def born(self) -> float:
        """Unix seconds: since then nothing was forgotten before its time, as far as the last answer told."""

    @property
    def away_since(self) -> float | None:
        """Unix seconds of this process's clock when the first call failed of those that fail now; None: none fails."""

    async def start(self) -> None:
        """Connects; goes on when nobody answers. Raises ConfigError for a server that does not fit."""

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, seconds: float) -> None: ...

    async def delete(self, key: str) -> None: ...

    async def add(self, key: str, seconds: float) -> bool:
        """Remembers a key; False if it is remembered already. `born` is at least as new as this answer."""

    async def announce(self, group: str, member: str, value: bytes, seconds: float) -> None:
        """Says for a while that a member is there; again before the time is over, and with what is true by then."""

    async def withdraw(self, group: str, member: str) -> None: ...

    async def members(self, group: str) -> dict[str, bytes]:
        """Who is there, with what they said."""

    async def take(self, key: str, claim: Claim) -> Grant:
        """A slice of a shared bucket, which is full when first used."""

    async def take_all(self, claims: Sequence[tuple[str, Claim]]) -> list[Grant]:
        """Slices of some shared buckets, or none of any if one of them has too little."""

    async def close(self) -> None: ...


class NearCache:
    """In the memory of this process: a restart begins anew, and `born` says so."""

    near = True
    up = True
    away_since = None

    def __init__(self, clock: Callable[[], float] = time.time, most: int = 100_000) -> None:
        """`clock` gives Unix seconds; no more than `most` names of each kind are kept."""
        self._clock, self._most = clock, most
        self._pruned = self.born = clock()
        self._values: dict[str, tuple[bytes, float]] = {}
        self._members: dict[str, dict[str, tuple[bytes, float]]] = {}
        self._pots: dict[str, tuple[Pot, float, float]] = {}

    async def start(self) -> None:
        """There is nothing to connect to."""

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
        live = {member: said for member, said in self._members.get(group, {}).items() if said[1] > now}
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
        """Nothing is held."""

    def _keep(self, key: str, value: bytes, seconds: float) -> None:
        self._prune()
        if key not in self._values and len(self._values) >= self._most:
            # Forgetting what was promised to be remembered would let a replay in.
            raise Unavailable(f"the cache is full: it keeps {self._most} values", retry_after=_PRUNE_EVERY)
        self._values[key] = value, self._clock() + seconds

    def _prune(self) -> None:
        now = self._clock()
        full = max(len(self._values), len(self._pots)) >= self._most
        if not full and now - self._pruned < _PRUNE_EVERY:
            return
        self._pruned = now
        self._values = {key: kept for key, kept in self._values.items() if kept[1] > now}
        self._pots = {k: pot for k, pot in self._pots.items() if not pot[0].idle(pot[1], pot[2], now)}
