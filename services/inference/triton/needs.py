"""Which versions the instances of an installation need on a server that they share, told to each other by leases."""

import orjson

from services.kit.cache import Cache

_LEASE = 15.0  # seconds; said again by each look at the server's versions
RENEW = 3.0


class Needs:
    """The versions that this instance and others need."""

    def __init__(self, cache: Cache, group: str, instance: str) -> None:
        """`group` names the instances that share a server."""
        self._cache, self._group, self._instance = cache, group, instance

    @property
    def shared(self) -> bool:
        """Whether others can be heard: without a cache that processes share, a server belongs to one instance."""
        return not self._cache.near

    async def say(self, names: set[str]) -> None:
        """Raises unavailable."""
        if self.shared:
            await self._cache.announce(self._group, self._instance, orjson.dumps(sorted(names)), _LEASE)

    async def of_others(self) -> set[str]:
        """The versions that other instances need. Raises unavailable."""
        if not self.shared:
            return set()
        members = await self._cache.members(self._group)
        return {name for who, names in members.items() if who != self._instance for name in orjson.loads(names)}

    async def withdraw(self) -> None:
        """This instance needs nothing any more. Raises unavailable."""
        if self.shared:
            await self._cache.withdraw(self._group, self._instance)
