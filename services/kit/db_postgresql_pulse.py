"""Whether a PostgreSQL server answers at all: asked with eight bytes that need no password."""

import asyncio
import time

_QUESTION = (8).to_bytes(4) + (80877103).to_bytes(4)  # SSLRequest: any server says one letter
_SECONDS = 0.7
_FRESH = 0.2  # seconds that an answer holds


class Pulse:
    """Tells a server that is only slow from one that is away, frozen or behind a broken line."""

    def __init__(self, host: str, port: int) -> None:
        """An empty host, or the folder of a socket: there is no line that could break."""
        self._host, self._port = host, port
        self._asking: asyncio.Task[bool] | None = None
        self._asked = 0.0
        self.missed = False

    async def beats(self) -> bool:
        """The answer of a moment ago, or a new one: at most 0.7 s, and one question for all who ask."""
        if not self._host or self._host.startswith("/"):
            return True
        if time.monotonic() - self._asked < _FRESH:
            return not self.missed
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(_SECONDS):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    writer.write(_QUESTION)
                    self.missed = not await reader.read(1)
                finally:
                    writer.close()
        except OSError:  # a TimeoutError is one, too
            self.missed = True
        self._asked = time.monotonic()
        return not self.missed
