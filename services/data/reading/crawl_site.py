"""One site as its crawl asks it: one request after the other, no faster than agreed, each bounded in time and bytes.

It is reached as any server of others is: at the address that was checked, whatever a page or a redirect says.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.data.reading.addresses import Site
from services.data.reading.folders import Place
from services.data.reading.patience import MOST
from services.kit.egress import Egress
from services.kit.errors import Code, Failure, Unavailable

SECONDS = 20.0  # for one answer
_LONG = 5.0  # seconds of waiting that people are told of
_SAID = 512  # characters of a header
BUSY = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """What the server said. `cut`: the body goes on behind what was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool

    def header(self, name: str) -> str:
        """What can be kept of one: visible ASCII."""
        value = self.headers.get(name, "")[:_SAID]
        return value if value.isascii() and value.isprintable() else ""

    @property
    def retry_seconds(self) -> float:
        """How long it asks to be left alone."""
        said = self.header("retry-after")
        return float(said) if said.isdigit() and len(said) < 9 else 0.0


class Server:
    """The server of a site, while the context lasts."""

    def __init__(self, site: Site, place: Place, agent: str, seconds: float = SECONDS) -> None:
        """Raises egress_denied for http where the operator does not allow it."""
        self._site, self._address, self._agent, self._seconds = site, place.address, agent, seconds
        self._egress = Egress(f"{site.host}:{site.port}" if place.trusted else "", self._checked, most=1)
        self._egress.parse(f"{site.origin}/")
        self._runner = asyncio.Runner()

    async def _checked(self, host: str, port: int) -> list[str]:
        return [self._address]

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: Any) -> None:
        self._runner.run(self._egress.close())
        self._runner.close()

    def get(
        self, url: str, most: int, headers: Mapping[str, str] | None = None, wanted: Callable[[Answer], bool] = bool
    ) -> Answer:
        """The answer to a GET, with the first `most` bytes of its body, if it is `wanted` by its headers.

        Raises unavailable, deadline_exceeded; egress_denied for an address that is not the one which was checked.
        """
        return self._runner.run(self._get(url, most, headers or {}, wanted))

    async def _get(self, url: str, most: int, headers: Mapping[str, str], wanted: Callable[[Answer], bool]) -> Answer:
        sent = {"user-agent": self._agent, "accept": "text/html, text/*;q=0.9, */*;q=0.1", **headers}
        try:
            async with asyncio.timeout(self._seconds), self._egress.stream("GET", url, sent) as found:
                head = Answer(found.status, found.headers, b"", False)
                if found.status in (304, *BUSY) or not wanted(head):
                    return head
                received = bytearray()
                async for chunk in found.chunks:
                    received += chunk
                    if len(received) > most:
                        break
                return Answer(found.status, found.headers, bytes(received[:most]), len(received) > most)
        except TimeoutError:
            raise Failure(
                Code.DEADLINE_EXCEEDED, f"{self._site.host} gives no whole answer within {self._seconds:g} s"
            ) from None


class Pace:
    """When the next request may go. It is kept from run to run, by the clock on the wall."""

    def __init__(self, asked: float, pause: float, until: float, tell: Callable[[str], None]) -> None:
        """`asked`: when the last one went, `pause`: seconds that are to lie behind it; `until`: monotonic."""
        self.asked, self.pause, self._until, self._tell = asked, pause, until, tell

    def turn(self, pause: float) -> bool:
        """Waits until a request may go; false where that is later than a run waits. `pause` is for the next one."""
        # A clock that was set back keeps nobody waiting for longer than was agreed.
        wait = min(max(self.asked + self.pause - time.time(), 0.0), self.pause)
        if wait > MOST or time.monotonic() + wait > self._until:
            return False
        if wait > _LONG:
            self._tell(f"{wait:.0f} s lie between two requests")
        time.sleep(wait)
        self.asked, self.pause = time.time(), pause
        return True

    def put_off(self, seconds: float) -> None:
        """The next request goes no earlier than in so many seconds."""
        self.pause = max(self.pause, time.time() - self.asked + seconds)


def away(host: str, status: int) -> Failure:
    """The failure of a server that answers that it is busy or broken."""
    return Unavailable(f"{host} answers {status}")
