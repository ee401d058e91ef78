"""Discovery by DNS: every address of a name is an instance. Polled, as DNS does not announce changes."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from services.kit.config import ConfigError
from services.kit.discovery import Table, pairs
from services.kit.member import Instance
from services.kit.tasks import cancel, keep_running

log = logging.getLogger(__name__)
_EVERY = 3.0  # seconds between two queries
_LONGEST = 5.0  # seconds that an answer may take
Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a host. Raises OSError when there are none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


class Names:
    """The instances behind names: dns:registry=registry:9101,inference=inference.svc:9104."""

    leased = False

    def __init__(self, text: str, ask: Resolve = resolve, every: float = _EVERY) -> None:
        """Raises ConfigError."""
        form = "dns:service=host:port,..."
        split = {name: where.rpartition(":") for name, where in pairs(text, form).items()}
        if not all(host and port.isdecimal() for host, _, port in split.values()):
            raise ConfigError(f"AIMASS_DISCOVERY_URL: must be {form}")
        self._names = {name: (host.strip("[]"), int(port)) for name, (host, _, port) in split.items()}
        self._ask, self._every = ask, every
        self._table: dict[str, list[Instance]] = {}
        self._failing: set[str] = set()
        self._following: asyncio.Task[None] | None = None

    def knows(self, service: str) -> bool:
        return service in self._names

    async def start(self, update: Callable[[Table], None]) -> None:
        await self._look()
        update(self._table)
        self._following = asyncio.create_task(keep_running(partial(self._follow, update)))

    async def _follow(self, update: Callable[[Table], None]) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self._look()
            update(self._table)

    async def _look(self) -> None:
        found = await asyncio.gather(*(self._resolved(name) for name in self._names))
        # A name without an answer keeps its last addresses.
        self._table = self._table | {name: there for name, there in zip(self._names, found, strict=True) if there}

    async def _resolved(self, name: str) -> list[Instance]:
        host, port = self._names[name]
        try:
            async with asyncio.timeout(_LONGEST):
                addresses = await self._ask(host, port)
            self._failing.discard(name)
        except OSError as error:
            if name not in self._failing:
                self._failing.add(name)
                log.warning("the addresses of %s cannot be resolved: %s", host, str(error) or "no answer in time")
            return []
        places = [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in addresses]
        return [Instance(place, place) for place in places]

    async def announce(self, places: Mapping[str, str]) -> None:
        """Does nothing."""

    async def withdraw(self) -> None:
        """Does nothing."""

    def living(self, service: str) -> frozenset[str]:
        return frozenset()

    async def close(self) -> None:
        await cancel(self._following)
