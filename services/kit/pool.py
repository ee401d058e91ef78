"""The instances of one service, as a caller sees them: connected or not, how busy, how well they answer.

Each call goes to a connected instance whose breaker admits it, chosen by the balancer of its route. Breakers and
ejection keep out at most half of the connected ones; a single instance may be kept out by its breaker. An instance
that leaves is called for a while when there is no other: its successor may not be connected yet.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from services.kit.balancing import Balancer, Way
from services.kit.breaker import Rules
from services.kit.errors import Unavailable
from services.kit.member import Connect, Instance, Member, plain

# Seconds that calls wait for an instance that was there and is away, and for one that is starting. As long as none was
# ever there they wait for their deadlines.
PATIENCE, STARTING = 2.0, 5.0
_LOOK = 0.1  # seconds after which a waiting call looks again at the breakers
_LEAVING = 60.0  # seconds that calls of an instance that has left may still take
_LINGER = 10.0  # seconds for which it is kept at hand, unless it hangs up


# The entry of the calls file that matches a route, and its way of balancing. Routes of one entry share a balancer.
Ways = Callable[[str], tuple[str, Way]]


class Pool:
    """The instances of one service."""

    def __init__(
        self,
        service: str,
        instances: Iterable[Instance] = (),
        connect: Connect = plain,
        rules: Rules | None = None,
        ways: Ways = lambda route: ("", Way.POWER_OF_TWO),
    ) -> None:
        """`connect` makes a channel to an address of a service. Connections are opened by the first call."""
        self.service, self._connect, self._rules, self._ways = service, connect, rules or Rules(), ways
        self._routes: dict[str, Balancer[Member]] = {}
        self._balancers: dict[str, Balancer[Member]] = {}
        self._members: dict[tuple[str, str], Member] = {}
        # Those that fail their checks, and of the connected ones the share that has to pass for checks to count.
        self.ill: frozenset[Member] = frozenset()
        self.panic = 0.0
        # Those that stand out, each until when, and of the connected ones the share that may be left out.
        self.ejected: Mapping[Member, float] = {}
        self.share = 0.0
        self._changed = asyncio.Event()
        # It has been called; an instance has been there.
        self._used = self._seen = False
        self._leaving: dict[Member, asyncio.Task[None]] = {}
        self._at_hand: list[Member] = []
        self.update(instances)

    @property
    def members(self) -> Collection[Member]:
        """Those that may be called."""
        return self._members.values()

    @property
    def leaving(self) -> Collection[Member]:
        """Those that have left and can still be called."""
        return [member for member in self._at_hand if member.connected]

    def update(self, instances: Iterable[Instance]) -> None:
        """The service has these instances from now on. Calls of those that left may end."""
        wanted = {instance.place: instance for instance in instances}
        for place in [there for there in self._members if there not in wanted]:
            member = self._members.pop(place)
            if member.connected:
                self._at_hand = [*(other for other in self._at_hand if other.instance.place != place), member]
            self._leaving[member] = asyncio.get_running_loop().create_task(self._let_go(member))
        for place, instance in sorted(wanted.items()):
            if place in self._members:
                self._members[place].instance = instance  # it may weigh more or less now
                continue
            channel = self._connect(instance.address, self.service)
            member = self._members[place] = Member(instance, channel, self._rules, self._news)
            if self._used:
                member.connect()
        self._news()

    def rule(self, rules: Rules) -> None:
        """Breakers open by these rules from now on."""
        self._rules = rules
        for member in self._members.values():
            member.breaker.rules = rules
        self._routes, self._balancers = {}, {}

    def by(self, route: str) -> Balancer[Member]:
        """The balancer of a route."""
        if (found := self._routes.get(route)) is None:
            entry, way = self._ways(route)
            found = self._routes[route] = self._balancers.setdefault(entry, Balancer(way))
        return found

    def renew(self) -> None:
        """New connections for new calls, as when certificates have changed; calls under way end on the old ones."""
        instances = tuple(member.instance for member in self.members)
        self.update(())
        self.update(instances)

    def choose(self, among: Collection[str] | None = None, by: Balancer[Member] | None = None) -> Member | None:
        """The instance for the next call, of those with these ids; None when none can be called now."""
        connected = self._connected(self.members, among) or self._connected(self._at_hand, among)
        if self.ill:
            connected = self._well(connected)
        admitted = [member for member in connected if member.breaker.admits()]
        most = max(len(connected) // 2, 1)
        if len(connected) - len(admitted) > most:
            # Those that failed last are taken all the same.
            refused = [member for member in connected if member not in admitted]
            admitted += sorted(refused, key=lambda member: member.breaker.opened_until)[most:]
        elif self.ejected:
            admitted = self._inconspicuous(connected, admitted)
        return (by or self.by("")).choose(admitted) if admitted else None

    def _inconspicuous(self, connected: list[Member], admitted: list[Member]) -> list[Member]:
        """Without ejected ones, as far as breakers leave room in the share: those whose time ends first come back."""
        room = int(self.share * len(connected)) - (len(connected) - len(admitted))
        if room <= 0:
            return admitted
        out = sorted((one for one in admitted if one in self.ejected), key=lambda one: self.ejected[one])[-room:]
        return [member for member in admitted if member not in out]

    def _well(self, connected: list[Member]) -> list[Member]:
        well = [member for member in connected if member.well]
        return well if well and len(well) >= self.panic * len(connected) else connected

    async def wait(
        self, seconds: float, among: Collection[str] | None = None, by: Balancer[Member] | None = None
    ) -> Member:
        """The instance for the next call, once there is one. Raises unavailable, soon if waiting is useless."""
        self._used = True
        for member in self.members:
            member.connect()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (found := self.choose(among, by)) is None and not self._hopeless(among):
                    await self._news_or(_LOOK)
                if found:
                    return found
        raise Unavailable(f"{self.service} is unavailable", retry_after=1)

    async def _let_go(self, member: Member) -> None:
        try:
            until = time.monotonic() + _LINGER
            while self._useful(member) and (left := until - time.monotonic()) > 0:
                await self._news_or(left)
            self._at_hand = [other for other in self._at_hand if other is not member]
            await member.close(_LEAVING)
        finally:
            del self._leaving[member]

    def _useful(self, member: Member) -> bool:
        """Whether a member that has left can be called and has no newer connection in its place."""
        again = self._members.get(member.instance.place)
        return member.connected and member in self._at_hand and not (again and again.connected)

    @staticmethod
    def _connected(members: Iterable[Member], among: Collection[str] | None) -> list[Member]:
        return [one for one in members if one.connected and (among is None or one.instance.id in among)]

    def _some(self, among: Collection[str] | None) -> list[Member]:
        return [member for member in self.members if among is None or member.instance.id in among]

    def _hopeless(self, among: Collection[str] | None) -> bool:
        """No instance may still come: breakers keep out the connected ones, and the others have been away too long."""
        members, now = self._some(among), time.monotonic()
        if any(one.connecting(PATIENCE if one.seen else STARTING, now) for one in members):
            return False
        return self._seen or any(member.connected for member in members)

    def _news(self) -> None:
        self._seen = self._seen or any(member.connected for member in self.members)
        self._changed.set()
        self._changed = asyncio.Event()

    async def _news_or(self, seconds: float) -> None:
        changed = self._changed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await changed.wait()

    async def close(self) -> None:
        """Closes all connections; calls under way are cut."""
        leaving = dict(self._leaving)
        for task in leaving.values():
            task.cancel()
        await asyncio.gather(*leaving.values(), return_exceptions=True)
        await asyncio.gather(*(member.close() for member in (*leaving, *self.members)), return_exceptions=True)
