"""One instance of a service, as a caller holds it: its connection, its breaker, its calls under way."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from grpc import ChannelConnectivity, aio

from services.kit.breaker import Breaker, Outcome, Rules
from services.kit.outliers import Record
from services.kit.rpc import OPTIONS
from services.kit.tasks import cancel, keep_running

if TYPE_CHECKING:
    from services.kit.tls import Credentials

# A peer that is frozen or cut off is noticed within four seconds, and one that swallows connections within two.
PINGS = [
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),  # the one that counts today; a minute when it is not said
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.min_reconnect_backoff_ms", 2000),
]
# What a call that the other side has never seen needs: it is sent again where it may be. There are no other retries.
_AGAIN = ("grpc.enable_retries", 1)


class Instance(NamedTuple):
    """A process that serves a service: its id (its address where it has none), and host:port."""

    id: str
    address: str
    # Its share of calls that go by weights, in relation to others'.
    weight: int = 1

    @property
    def place(self) -> tuple[str, str]:
        """What identifies it: its weight may change."""
        return self[:2]


Connect = Callable[[str, str], aio.Channel]
_SETTLES = 0.1  # seconds after which the channel of a lost call knows whether it is connected


def plain(address: str, service: str) -> aio.Channel:
    """A channel to an address without TLS."""
    return aio.insecure_channel(address, options=_options())


def connector(credentials: "Credentials | None") -> Connect:
    """What makes channels: with credentials the other side must show that it is the service."""
    if credentials is None:
        return plain

    def connect(address: str, service: str) -> aio.Channel:
        own, options = credentials.channel(service)
        return aio.secure_channel(address, own, options=[*_options(), *options])

    return connect


def _options() -> list[tuple[str, Any]]:
    return [*(option for option in OPTIONS if option[0] != _AGAIN[0]), *PINGS, _AGAIN]


class Member:
    """One instance: its connection, its breaker, and how many calls are under way."""

    def __init__(self, instance: Instance, channel: aio.Channel, rules: Rules, news: Callable[[], None]) -> None:
        self.instance, self.breaker = instance, Breaker(rules, dice=random.random)
        self.load, self.connected, self.away_since = 0, False, time.monotonic()
        self.seen = False  # it has been connected
        self.well = True  # as its checks say
        self.record = Record()  # of its calls since the last look at outliers
        self._closed = False
        self._channel, self._news = channel, news
        self._ended = asyncio.Event()
        self._methods: dict[Any, Any] = {}
        self._watching: asyncio.Task[None] | None = None

    @property
    def weight(self) -> int:
        """Its share of calls that go by weights."""
        return self.instance.weight

    def connect(self) -> None:
        """Connects, and keeps the connection."""
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(keep_running(self._watch))

    def connecting(self, patience: float, now: float) -> bool:
        """Whether it may be connected soon: it has been away, or known, for no longer than some seconds."""
        return not self.connected and now - self.away_since <= patience

    def method(self, kind: str, path: str, encode: Any, decode: Any) -> Any:
        """A method of the instance; `kind` is unary_unary and so on."""
        key = (kind, path, encode, decode)
        if (found := self._methods.get(key)) is None:
            found = self._methods[key] = getattr(self._channel, kind)(path, encode, decode)
        return found

    def begin(self) -> int:
        """A call begins; gives its ticket for `end`."""
        self.load += 1
        return self.breaker.begin()

    def end(self, ticket: int, outcome: Outcome, began: float = 0.0) -> None:
        """A call has ended; `began` on the monotonic clock, where the time that it took says something."""
        self.load -= 1
        self._ended.set()
        self.record.add(outcome, time.monotonic() - began if began and self.record.times else 0.0)
        self.breaker.end(ticket, outcome)
        if outcome is Outcome.LOST:
            self._doubt()

    def _doubt(self) -> None:
        """The next call goes elsewhere: a channel says a while after its calls that its connection is gone."""
        if self.connected:
            self.connected, self.away_since = False, time.monotonic()
            self._news()
            asyncio.get_running_loop().call_later(_SETTLES, self._settle)

    def _settle(self) -> None:
        if not self._closed and not self.connected and self._channel.get_state() is ChannelConnectivity.READY:
            self.connected = True
            self._news()

    async def _watch(self) -> None:
        while True:
            state = self._channel.get_state(try_to_connect=True)
            self._see(state)
            await self._channel.wait_for_state_change(state)

    def _see(self, state: ChannelConnectivity) -> None:
        connected = state is ChannelConnectivity.READY
        if connected == self.connected:
            return
        if connected:
            self.seen = True
            self.breaker.retry_soon()
            self.record = Record(bool(self.record.times))  # it may be another process
        else:
            self.away_since = time.monotonic()
        self.connected = connected
        self._news()

    async def close(self, seconds: float = 0.0) -> None:
        """Lets the calls that are under way end within some seconds, then closes the connection."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while self.load:
                        await self._ended.wait()
                        self._ended.clear()
        finally:
            self._closed = True
            await cancel(self._watching)
            await self._channel.close()
