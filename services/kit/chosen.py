"""Channels to some instances of a service, and to one that was chosen already."""

from collections.abc import Collection

from services.kit.balancing import Balancer
from services.kit.calls import CallTable
from services.kit.channels import BalancedChannel
from services.kit.member import Member
from services.kit.pool import Pool


class SomeChannel(BalancedChannel):
    """Calls by one of some instances, known by their ids."""

    def __init__(
        self,
        pool: Pool,
        among: Collection[str],
        calls: CallTable | None = None,
        by: Balancer[Member] | None = None,
    ) -> None:
        """`by` chooses among them; without it what the table of calls says of the method."""
        super().__init__(pool, calls)
        self._among, self._by = among, by
        # The instance of the last call; empty before.
        self.picked = ""

    async def member(self, seconds: float, path: str) -> Member:
        by = self._by or self._pool.by(path)
        found = self._pool.choose(self._among, by) or await self._pool.wait(seconds, self._among, by)
        self.picked = found.instance.id
        return found

    def by(self, member: Member) -> "OneChannel":
        """The same for a call by an instance that it has chosen."""
        return OneChannel(self._pool, member, self._calls)


class OneChannel(BalancedChannel):
    """Calls by an instance that was chosen already."""

    def __init__(self, pool: Pool, chosen: Member, calls: CallTable | None = None) -> None:
        super().__init__(pool, calls)
        self._chosen = chosen

    async def member(self, seconds: float, path: str) -> Member:
        return self._chosen
