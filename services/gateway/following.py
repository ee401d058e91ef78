"""What a gateway holds of a table in memory, kept as the database has it: by events and by polling."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable

from services.kit.errors import Failure

log = logging.getLogger(__name__)
POLL = 0.5  # seconds; a change counts at every gateway after one, although no event tells of it


class Following:
    """Reads a table again when other gateways have changed it."""

    def __init__(
        self,
        what: str,
        near: bool,
        revision: Callable[[], Awaitable[Hashable]],
        load: Callable[[], Awaitable[None]],
    ) -> None:
        """`load` reads the table, `revision` gives another value after each change; `what` is its name in the log.

        A database that only this process uses (`near`) is not polled.
        """
        self._what, self._near, self._revision, self._load = what, near, revision, load
        self._seen: Hashable = None  # the revision that was read last
        self._away = False

    async def start(self) -> None:
        """Reads the table. Raises unavailable."""
        await self._renew(None if self._near else await self._revision())

    async def reload(self) -> None:
        """Reads the table; while the database is away, what is held stays."""
        try:
            await self.start()
        except Failure as failure:
            self._lost(failure)

    async def watch(self) -> None:
        """Polls for ever."""
        while not self._near:
            await asyncio.sleep(POLL)
            try:
                if (revision := await self._revision()) != self._seen:
                    await self._renew(revision)
                self._away = False
            except Failure as failure:
                self._lost(failure)

    async def _renew(self, revision: Hashable) -> None:
        """`revision` was read before: a change in between is read again."""
        await self._load()
        self._seen, self._away = revision, False

    def _lost(self, failure: Failure) -> None:
        if not self._away:
            log.warning("%s stay as they were: %s", self._what, failure)
        self._away = True
