"""Discovery: where the instances of services are. The port, and the source that is a fixed list.

While a source is away its last table is used: connections find out which instances have gone.
"""

import socket
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Protocol

from services.kit.balancing import HEAVIEST, Balancer
from services.kit.breaker import Rules
from services.kit.calls import CallTable
from services.kit.channels import BalancedChannel, SomeChannel
from services.kit.config import ConfigError
from services.kit.local import LocalChannel
from services.kit.member import Connect, Instance, Member, plain
from services.kit.pool import Pool

Table = Mapping[str, Collection[Instance]]


class Source(Protocol):
    """Port: the instances of services."""

    # Whether instances announce themselves; else it is not known which are alive.
    leased: bool

    def knows(self, service: str) -> bool:
        """Whether it can say something of a service, now or later."""

    async def start(self, told: Callable[[Table], None]) -> None:
        """Tells the table, and again when it has changed."""

    async def announce(self, places: Mapping[str, str]) -> None:
        """Says that this process hosts services, and where they listen; empty: nowhere."""

    async def withdraw(self) -> None:
        """Says that this process is leaving: others choose it no more."""

    def living(self, service: str) -> frozenset[str]:
        """The ids of the processes that host a service and have said so lately."""

    async def close(self) -> None:
        """Ends what `start` began."""


class Listed:
    """The instances that the installation lists: static:registry=10.0.0.1:9101;weight=3|10.0.0.2:9101,logs=..."""

    leased = False

    def __init__(self, text: str = "") -> None:
        """Raises ConfigError."""
        named = {name: addresses.split("|") for name, addresses in pairs(text, "static:service=host:port,...").items()}
        self.table = {name: [_listed(one) for one in addresses if one] for name, addresses in named.items()}

    def knows(self, service: str) -> bool:
        return service in self.table

    async def start(self, told: Callable[[Table], None]) -> None:
        told(self.table)

    async def announce(self, places: Mapping[str, str]) -> None:
        """The list does not change."""

    async def withdraw(self) -> None:
        """The list stays as it is."""

    def living(self, service: str) -> frozenset[str]:
        return frozenset()

    async def close(self) -> None:
        """Nothing is held."""


def _listed(text: str) -> Instance:
    """`host:port` or `host:port;weight=3`. Raises ConfigError."""
    address, _, more = text.partition(";")
    name, _, weight = more.partition("=")
    if more and not (name == "weight" and weight.isdecimal() and 1 <= int(weight) <= HEAVIEST):
        raise ConfigError(f"AIMASS_DISCOVERY_URL: {text} must be host:port;weight=1..{HEAVIEST}")
    return Instance(address, address, int(weight or 1))


def pairs(text: str, form: str) -> dict[str, str]:
    """`registry=...,logs=...` by service. Raises ConfigError that says the form."""
    split = [part.partition("=") for part in text.split(",") if part]
    if not all(name and value for name, _, value in split):
        raise ConfigError(f"AIMASS_DISCOVERY_URL: must be {form}")
    return {name: value for name, _, value in split}


def place(listen: str, advertised: str) -> str:
    """What others call the address where a service listens; empty when it listens nowhere.

    `advertised` stands for every address of this machine; its host name if empty.
    """
    host, _, port = listen.rpartition(":")
    every = host in ("", "0.0.0.0", "[::]")
    return f"{(advertised or socket.gethostname()) if every else host}:{port}" if port else ""


def _fixed(table: Table) -> dict[str, tuple[Instance, ...]]:
    """A table that can be compared with another one."""
    return {service: tuple(instances) for service, instances in table.items()}


class Directory:
    """Channels to services by name. A service of this process is reached without a socket, and by no other way."""

    def __init__(
        self, hosted: tuple[str, ...], source: Source, connect: Connect = plain, calls: CallTable | None = None
    ) -> None:
        """`connect` makes a channel to an address of a service; `calls` says what holds for calls."""
        self.local = {name: LocalChannel() for name in hosted}
        self.source, self._connect, self._calls = source, connect, calls or CallTable()
        self._table = _fixed(source.table) if isinstance(source, Listed) else {}
        self._pools: dict[str, Pool] = {}

    async def start(self) -> None:
        """Begins to listen to its source; goes on without when it is away."""
        await self.source.start(self._told)

    def _told(self, table: Table) -> None:
        if (said := _fixed(table)) == self._table:
            return
        self._table = said
        for service, pool in self._pools.items():
            pool.update(self.instances(service))

    def knows(self, service: str) -> bool:
        """Whether the service is in this process, or the source knows it."""
        return service in self.local or self.source.knows(service)

    def instances(self, service: str) -> Collection[Instance]:
        """Those in other processes that can be called."""
        return [instance for instance in self._table.get(service, ()) if instance.address]

    def living(self, service: str) -> frozenset[str] | None:
        """The ids of the live processes that host a service; None when the source does not know them."""
        return self.source.living(service) if self.source.leased else None

    def pool(self, service: str) -> Pool | None:
        """The instances to choose from; None for a service of this process. Raises ConfigError as `channel` does."""
        if service in self.local:
            return None
        if service not in self._pools:
            if not self.source.knows(service):
                raise ConfigError(f"AIMASS_DISCOVERY_URL: says nothing of {service}")
            ways = partial(self._calls.balancing, service)
            self._pools[service] = Pool(service, self.instances(service), self._connect, self._rules(service), ways)
        return self._pools[service]

    def channel(self, service: str, instance: str = "") -> Any:
        """A channel to a service, or to one instance by its id. Raises ConfigError when the source does not know it."""
        pool = self.pool(service)
        if pool is None:
            return self.local[service]
        return SomeChannel(pool, (instance,), self._calls) if instance else BalancedChannel(pool, self._calls)

    @property
    def pools(self) -> Collection[Pool]:
        """Those that have been asked for."""
        return self._pools.values()

    def some(self, pool: Pool, among: Collection[str], by: Balancer[Member] | None = None) -> SomeChannel:
        """A channel to some instances of a pool, by their ids, chosen `by` something else than the table says."""
        return SomeChannel(pool, among, self._calls, by)

    def rule(self) -> None:
        """Breakers open, and instances are chosen, as the table of calls says now."""
        for service, pool in self._pools.items():
            pool.rule(self._rules(service))

    def _rules(self, service: str) -> Rules:
        return Rules(**self._calls.breaker(service))

    def renew(self) -> None:
        """New connections for new calls, as when certificates have changed."""
        for pool in self._pools.values():
            pool.renew()

    async def close(self) -> None:
        """Closes the connections; calls under way are cut."""
        await self.source.close()
        for pool in self._pools.values():
            await pool.close()
