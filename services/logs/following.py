"""Following the records: how a slice makes rows of them, from the position that its own transactions write."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from services.kit.errors import Failure
from services.logs.database import Place
from services.logs.ingest.segments import Position
from services.logs.ingest.service import Ingest, Stored

log = logging.getLogger(__name__)
_NOTE_EVERY = 30.0  # seconds after which a position is written though nothing was made of the records before it
Start = Callable[[str], Awaitable[Place]]
Take = Callable[[Sequence[Stored], Position, bool], Awaitable[bool]]


async def follow(name: str, ingest: Ingest, start: Start, take: Take) -> None:
    """Gives records, in order, to `take` until it is cancelled; waits while the database or the disk fails.

    `take` gets records and the position after them. It writes both in one transaction, and returns whether it has: a
    position without rows only needs to be written if the third argument is true. `start` reads the written position.
    """
    while True:
        try:
            position, written = Position(*await start(name)), time.monotonic()
            while True:
                stored, position = await ingest.after(position)
                if await take(stored, position, time.monotonic() - written > _NOTE_EVERY):
                    written = time.monotonic()
        except (Failure, OSError) as failure:
            log.warning("%s wait: %s", name, failure)
            await asyncio.sleep(1)
