"""Makes clients of the library so that one that fails to connect leaks no threads or sockets.

kafka-python 3.0 leaks the thread and the sockets of a client whose first connection fails, and the socket of every
refused connection; while a cluster is away there are thousands of them.
"""

import contextlib
import itertools
import logging
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakSet

from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

log = logging.getLogger("services.kit.bus_kafka")
_QUIET = 30.0  # seconds between two warnings


# Where to connect to for a host and a port: an address, or None for nowhere.
Lookup = Callable[[str, int], str | None]


class _Opened(NamedTuple):
    """What belongs to a client: its sockets, and what says where they may lead."""

    sockets: WeakSet[Any]
    lookup: Lookup | None


class _Socket(KafkaNetSocket):  # type: ignore[misc]
    """A direct connection, through the library's hook for proxies: the URL names the client that it belongs to."""

    SCHEMES = ("direct",)

    def __init__(self, proxy_url: str) -> None:
        self._opened = _clients[proxy_url]

    def dns_lookup(self, host: str, port: int, raise_error: bool = False) -> Any:
        if self._opened.lookup is None:
            return super().dns_lookup(host, port, raise_error)
        address = self._opened.lookup(host, port)
        flags = socket.AI_NUMERICHOST
        return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=flags) if address else []

    def socket(self, *arguments: Any, **options: Any) -> Any:
        made = super().socket(*arguments, **options)
        self._opened.sockets.add(made)
        return made

    async def sock_connect(self, net: Any, sock: Any, sockaddr: Any, timeout_at: Any = None) -> Any:
        try:
            return await super().sock_connect(net, sock, sockaddr, timeout_at=timeout_at)
        except BaseException:
            sock.close()
            raise


class _Network(KafkaNetClient):  # type: ignore[misc]
    """The network side of a client. Closing it closes its sockets without sending what waits."""

    def __init__(self, *arguments: Any, proxy_url: str, **options: Any) -> None:
        self._url = proxy_url
        super().__init__(*arguments, proxy_url=proxy_url, **options)

    def close(self, node_id: Any = None) -> None:
        try:
            super().close(node_id)
        finally:
            if node_id is None:
                opened = _clients.pop(self._url, None)
                for one in list(opened.sockets) if opened else ():
                    one.close()


_clients: dict[str, _Opened] = {}
_numbers = itertools.count()


def make_client(kind: Any, lookup: Lookup | None = None, **settings: Any) -> Any:
    """A client of one of the library's classes. Blocks; raises KafkaError when no broker answers.

    `lookup` says where each connection goes, also those to brokers that a broker names; without it names are resolved.
    """
    made: list[_Network] = []
    url = f"direct://{next(_numbers)}"
    _clients[url] = _Opened(WeakSet(), lookup)

    def network(*arguments: Any, **options: Any) -> _Network:
        made.append(_Network(*arguments, **options))
        return made[-1]

    try:
        return kind(kafka_client=network, proxy_url=url, **settings)
    except BaseException:
        for one in made:
            one.close()
        raise


def end_consumer(consumer: Any, milliseconds: int) -> None:
    """Closes a consumer that may be broken: if it cannot leave its group, its connections are closed all the same."""
    with contextlib.suppress(Exception):
        consumer.close(autocommit=False, timeout_ms=milliseconds)
    with contextlib.suppress(Exception):
        consumer._client.close()


class Complaints:
    """Logs a warning, and then for a while only counts further ones."""

    def __init__(self) -> None:
        self._logged, self._more = float("-inf"), 0

    def say(self, text: str) -> None:
        if time.monotonic() - self._logged < _QUIET:
            self._more += 1
            return
        log.warning("kafka: %s%s", text[:300], f" ({self._more} more complaints)" if self._more else "")
        self._logged, self._more = time.monotonic(), 0


class _Library(logging.Handler):
    """The library's warnings, most of them only counted: it logs twenty a second while a broker is away."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._complaints = Complaints()

    def emit(self, record: logging.LogRecord) -> None:
        self._complaints.say(record.getMessage())


def listen_to_library() -> None:
    """Brings some of the library's warnings into our log."""
    library = logging.getLogger("kafka")
    if not any(isinstance(handler, _Library) for handler in library.handlers):
        library.addHandler(_Library())
        library.setLevel(logging.WARNING)
        library.propagate = False
        # It warns when its thread was slow, which only says that the machine is busy.
        logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
