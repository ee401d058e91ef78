"""The keys of one issuer: found by its discovery document, refreshed, and kept while it is away."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from services.gateway.issuers import jwks, strict
from services.gateway.issuers.table import Issuer
from services.kit.egress import Egress
from services.kit.errors import Failure

log = logging.getLogger(__name__)
EVERY = 300.0  # seconds between two looks at an issuer
_SOONEST, _LATEST = 1.0, 60.0  # seconds to the next look after one that failed
ASKED = 10.0  # seconds between two looks because of a key that is not known
_PATIENCE = 3.0  # seconds that a request waits for such a look
_ANSWER = 5.0  # seconds for each document
_SIZE = 256 * 2**10  # bytes of each document
_KNOWN = "/.well-known/openid-configuration"


class KeySet:
    """The keys that an issuer's tokens are verified with."""

    def __init__(
        self,
        name: str,
        issuer: Issuer,
        egress: Egress,
        changed: Callable[[], None],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`changed` is called when the keys have changed; `ticks` gives monotonic seconds."""
        self._name, self.url, self.algorithm, self._egress = name, issuer.url, issuer.algorithm, egress
        self._changed, self._ticks = changed, ticks
        self.keys: Mapping[str, Any] = {}
        self._due = self._asked = -ASKED
        self._failures = 0
        self._look: asyncio.Task[None] | None = None

    def serves(self, issuer: Issuer) -> bool:
        """Whether these are the keys of an issuer."""
        return (self.url, self.algorithm) == (issuer.url, issuer.algorithm)

    def renew(self) -> None:
        """Begins to look at the issuer if it is time to."""
        if self._ticks() >= self._due:
            self._begin()

    async def ask(self) -> None:
        """Looks at the issuer now, for a key that is not known, unless that was just done."""
        now = self._ticks()
        if now - self._asked >= ASKED:
            self._asked = now
            self._begin()
        if self._look:
            await asyncio.wait([self._look], timeout=_PATIENCE)

    def stop(self) -> None:
        """Looks no more."""
        if self._look:
            self._look.cancel()

    async def close(self) -> None:
        """Waits until it looks no more."""
        self.stop()
        if self._look:
            await asyncio.gather(self._look, return_exceptions=True)

    def _begin(self) -> None:
        if self._look is None or self._look.done():
            self._due = self._ticks() + _LATEST
            self._look = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        try:
            found = await self._fetch()
        except (Failure, ValueError) as error:
            if not self._failures:
                log.warning("the keys of issuer %s stay as they were: %s", self._name, error)
            self._failures += 1
            wait = min(_SOONEST * 2 ** min(self._failures - 1, 10), _LATEST)
        else:
            if self._failures:
                log.info("issuer %s answers again", self._name)
            self._failures, wait = 0, EVERY
            if found != self.keys:
                self.keys = found
                self._changed()
        self._due = self._ticks() + wait * random.uniform(0.8, 1.0)

    async def _fetch(self) -> dict[str, Any]:
        document = strict.document(await self._get(self.url.rstrip("/") + _KNOWN))
        if document.get("issuer") != self.url:
            raise ValueError("its discovery document is that of another issuer")
        if not isinstance(place := document.get("jwks_uri"), str):
            raise ValueError("its discovery document names no keys")
        return jwks.read(await self._get(place), self.algorithm)

    async def _get(self, url: str) -> bytes:
        answer = await self._egress.request("GET", url, seconds=_ANSWER, most=_SIZE)
        if answer.status != 200:
            raise ValueError(f"it answers with {answer.status}")
        return answer.body
