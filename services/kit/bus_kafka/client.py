"""Makes clients of the library so that one that fails to connect leaks no threads or sockets.

kafka-python 3.0 leaks the thread and the sockets of a client whose first connection fails, and the socket of every
refused connection; while a cluster is away there are thousands of them.
"""

import contextlib
import itertools
import logging
import time
from typing import Any
from weakref import WeakSet

from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

log = logging.getLogger("services.kit.bus_kafka")
_QUIET = 30.0  # seconds between two warnings


class _Socket(KafkaNetSocket):  # type: ignore[misc]
    """A direct connection, through the library's hook for proxies: the URL names the client that it belongs to."""

    SCHEMES = ("direct",)

    def __init__(self, proxy_url: str) -> None:
        self._opened = _sockets[proxy_url]

    def socket(self, *arguments: Any, **options: Any) -> Any:
        made = super().socket(*arguments, **options)
        self._opened.add(made)
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
                for socket in list(_sockets.pop(self._url, ())):
                    socket.close()


_sockets: dict[str, WeakSet[Any]] = {}
_numbers = itertools.count()


def make_client(kind: Any, **settings: Any) -> Any:
    """A client of one of the library's classes. Blocks; raises KafkaError when no broker answers."""
    made: list[_Network] = []
    url = f"direct://{next(_numbers)}"
    _sockets[url] = WeakSet()

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
