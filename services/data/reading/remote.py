"""HTTP calls of a child to the one server of its source: to the address that was checked, and bounded."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from services.data.reading.folders import Place
from services.data.reading.patience import Patience
from services.kit.egress import Egress, Response
from services.kit.errors import Failure, Unavailable

_BUSY = (429, 500, 502, 503, 504)


class Remote:
    """One server, while the context lasts."""

    def __init__(self, place: Place, origin: str, host: str, port: int, patience: Patience) -> None:
        """`origin`: https://host:port. Raises egress_denied for http where the operator does not allow it."""
        self._origin, self._patience, self._address, self.host = origin, patience, place.address, host
        self._egress = Egress(f"{host}:{port}" if place.trusted else "", self._checked)
        self.authority = self._egress.parse(origin).authority
        self._runner = asyncio.Runner()

    async def _checked(self, host: str, port: int) -> list[str]:
        return [self._address]

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *_: Any) -> None:
        self._runner.run(self._egress.close())
        self._runner.close()

    def get(self, target: str, headers: Callable[[], Mapping[str, str]], most: int) -> Response:
        """The answer to a GET of a path with its query; `headers` are made for each attempt.

        A server that is away, busy or slow is waited for. Raises unavailable, deadline_exceeded when it is so for too
        long; limit_exceeded for more than `most` bytes, which nobody waits for.
        """
        url, seconds = f"{self._origin}{target}", self._patience.answer_seconds
        while True:
            try:
                asked = self._egress.request("GET", url, headers(), b"", seconds, most)
                answer = self._runner.run(asked)
                if answer.status in _BUSY:
                    raise Unavailable(f"{self.host} answers {answer.status}")
            except Failure as failure:
                self._patience.bear(failure)
                continue
            self._patience.got_on()
            return answer
