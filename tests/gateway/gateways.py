"""Several gateways that share limits, on a clock of the test's: what one bucket would have admitted is the measure."""

import asyncio
import random
from collections.abc import Sequence

from services.gateway.limits import Limit, Standing, Taking
from services.gateway.limits_shared import SharedBuckets
from services.kit.allowance import Claim, Grant
from services.kit.cache import NearCache
from services.kit.errors import Unavailable

TICK = 0.1  # seconds between looks


class Server(NearCache):
    """What all gateways reach; it can be emptied."""

    def __init__(self, world: "World") -> None:
        self._world = world
        super().__init__(lambda: world.now)

    def empty(self) -> None:
        super().__init__(lambda: self._world.now)


class Line(NearCache):
    """One gateway's way to the server; it can be cut, and may lose answers."""

    near = False

    def __init__(self, server: Server) -> None:
        super().__init__(lambda: 0.0)
        self._server, self.cut, self.loses, self.asked = server, False, False, 0
        self.slow = 0  # so many slices come too late

    def _cross(self) -> None:
        self.asked += 1
        if self.cut:
            raise Unavailable("redis is away")

    async def announce(self, group: str, member: str, value: bytes, seconds: float) -> None:
        self._cross()
        await self._server.announce(group, member, value, seconds)

    async def members(self, group: str) -> dict[str, bytes]:
        self._cross()
        return await self._server.members(group)

    async def withdraw(self, group: str, member: str) -> None:
        self._cross()
        await self._server.withdraw(group, member)

    async def take_all(self, claims: Sequence[tuple[str, Claim]]) -> list[Grant]:
        self._cross()
        await asyncio.sleep(0)
        if self.slow:
            self.slow -= 1
            raise Unavailable("redis does not answer")
        grants = await self._server.take_all(claims)
        if self.loses:
            raise Unavailable("redis does not answer")
        return grants


class World:
    """Gateways, one key, and a bucket that would count all of its calls."""

    def __init__(self, limit: Limit, gateways: int) -> None:
        self.now = self._looked = 0.0
        self.limit, self.level, self._at = limit, limit.burst, 0.0
        self.server = Server(self)
        self.lines = [Line(self.server) for _ in range(gateways)]
        self.gateways = [SharedBuckets(line, f"g{n}", lambda: self.now) for n, line in enumerate(self.lines)]
        self.admitted = self.refused = 0
        # The most that was admitted beyond what one bucket would have.
        self.excess = 0.0

    async def begin(self) -> "World":
        for _ in range(2):  # the first has to hear of the last
            for gateway in self.gateways:
                gateway._announced = -1e9
                await gateway.look()
        return self

    async def wait(self, seconds: float) -> None:
        """Time passes; what gateways do in the background is done."""
        end = self.now + seconds
        while self._looked + TICK <= end:
            self.now = self._looked = self._looked + TICK
            for gateway in self.gateways:
                await gateway.look()
                await gateway.sweep()
        self.now = end
        await self.settle()

    async def settle(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    async def call(self, gateway: int, cost: float = 1.0, costly: bool = False) -> Standing:
        standing = await self.gateways[gateway].wait_all([Taking("k", self.limit, cost)], costly)
        self.level = min(self.limit.burst, self.level + (self.now - self._at) * self.limit.rate)
        self._at = self.now
        if standing.admitted:
            self.admitted += 1
            self.level -= cost
            self.excess = max(self.excess, -self.level)
        else:
            self.refused += 1
        return standing

    async def load(self, rng: random.Random, rate: float, seconds: float, *gateways: int) -> None:
        """Calls at random moments, `rate` a second on average, at some gateways (all if none is named)."""
        begun = self.now
        while self.now < begun + seconds:
            await self.wait(rng.expovariate(rate))
            await self.call(rng.choice(gateways or range(len(self.gateways))))

    def cut(self, lines: bool = True) -> None:
        for line in self.lines:
            line.cut = lines
