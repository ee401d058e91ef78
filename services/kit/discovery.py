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
        """Whether it may have instances of a service, now or later."""

    async def start(self, update: Callable[[Table], None]) -> None:
        """Calls `update` with the table, and again whenever it changes."""

    async def announce(self, places: Mapping[str, str]) -> None:
        """Announces the services of this process, and where they listen; empty: nowhere."""

    async def withdraw(self) -> None:
        """Announces that this process is stopping: others do not call it any more."""

    def living(self, service: str) -> frozenset[str]:
        """The ids of the processes that hold a lease for a service."""

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

    async def start(self, update: Callable[[Table], None]) -> None:
        update(self.table)

    async def announce(self, places: Mapping[str, str]) -> None:
        """The list does not change."""

    async def withdraw(self) -> None:
        """Does nothing."""

    def living(self, service: str) -> frozenset[str]:
        return frozenset()

    async def close(self) -> None:
        """Does nothing."""


def _listed(text: str) -> Instance:
    """`host:port` or `host:port;weight=3`. Raises ConfigError."""
    address, _, more = text.partition(";")
    name, _, weight = more.partition("=")
    if more and not (name == "weight" and weight.isdecimal() and 1 <= int(weight) <= HEAVIEST):
        raise ConfigError(f"AIMASS_DISCOVERY_URL: {text} must be host:port;weight=1..{HEAVIEST}")
    return Instance(address, address, int(weight or 1))


def pairs(text: str, form: str) -> dict[str, str]:
    """`registry=...,logs=...` by service. Raises ConfigError with the expected form."""
    split = [part.partition("=") for part in text.split(",") if part]
    if not all(name and value for name, _, value in split):
        raise ConfigError(f"AIMASS_DISCOVERY_URL: must be {form}")
    return {name: value for name, _, value in split}


def place(listen: str, advertised: str) -> str:
    """The address that others use for a service that listens on `listen`; empty if it does not listen.

    If it listens on all addresses, the host is `advertised`, or the host name if that is empty.
    """
    host, _, port = listen.rpartition(":")
    every = host in ("", "0.0.0.0", "[::]")
    return f"{(advertised or socket.gethostname()) if every else host}:{port}" if port else ""


def _fixed(table: Table) -> dict[str, tuple[Instance, ...]]:
    """A table that can be compared."""
    return {service: tuple(instances) for service, instances in table.items()}


class Directory:
    """Channels to services by name. A service in this process is always called without a socket."""

    def __init__(
        self, hosted: tuple[str, ...], source: Source, connect: Connect = plain, calls: CallTable | None = None
    ) -> None:
        """`connect` opens a channel to an address of a service; `calls` has the rules of calls."""
        self.local = {name: LocalChannel() for name in hosted}
        self.source, self._connect, self._calls = source, connect, calls or CallTable()
        self._table = _fixed(source.table) if isinstance(source, Listed) else {}
        self._pools: dict[str, Pool] = {}

    async def start(self) -> None:
        """Starts the source; continues if that is unavailable."""
        await self.source.start(self._update)

    def _update(self, table: Table) -> None:
        if (fixed := _fixed(table)) == self._table:
            return
        self._table = fixed
        for service, pool in self._pools.items():
            pool.update(self.instances(service))

    def knows(self, service: str) -> bool:
        """Whether the service is in this process, or the source knows it."""
        return service in self.local or self.source.knows(service)

    def instances(self, service: str) -> Collection[Instance]:
        """The instances in other processes that can be called."""
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
                raise ConfigError(f"AIMASS_DISCOVERY_URL: must name {service}")
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
        """The pools that are in use."""
        return self._pools.values()

    def some(self, pool: Pool, among: Collection[str], by: Balancer[Member] | None = None) -> SomeChannel:
        """A channel to some instances of a pool, by their ids, balanced `by` another balancer if given."""
        return SomeChannel(pool, among, self._calls, by)

    def rule(self) -> None:
        """Applies the present rules of breakers and balancing."""
        for service, pool in self._pools.items():
            pool.rule(self._rules(service))

    def _rules(self, service: str) -> Rules:
        return Rules(**self._calls.breaker(service))

    def renew(self) -> None:
        """Opens new connections for new calls, after certificates have changed."""
        for pool in self._pools.values():
            pool.renew()

    async def close(self) -> None:
        """Closes the connections, and cuts calls in flight."""
        await self.source.close()
        for pool in self._pools.values():
            await pool.close()
