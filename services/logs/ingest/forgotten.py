"""Forgotten tenants: their records are removed from the segments and from the index, and no more are kept.

Segments are rewritten with blocks of the same length, so that positions of followers stay valid. A note lists the
tenants that are done; a pass that was interrupted is repeated.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import orjson

from services.kit.disk import replace
from services.logs.encoding import repack, unpack
from services.logs.ingest import sealing
from services.logs.ingest.service import Ingest
from services.logs.tables import tenant_of


class Forgotten:
    """Forgets tenants, and remembers which."""

    def __init__(self, note: Path, ingest: Ingest, unfind: Callable[[Collection[str]], Awaitable[None]]) -> None:
        """`unfind` removes the records of tenants from the index."""
        self._note, self._ingest, self._unfind = note, ingest, unfind
        self._done: frozenset[str] = frozenset()

    async def load(self) -> None:
        """Reads the note: from the start on, nothing is kept of its tenants."""
        with contextlib.suppress(FileNotFoundError):
            self._done = frozenset(orjson.loads(await asyncio.to_thread(self._note.read_bytes)))
        self._ingest.gone |= self._done

    async def forget(self, tenants: Sequence[str]) -> None:
        """Keeps nothing of these tenants from now on, and removes what there is, working half of the time.

        Tries all segments, then raises the last failure; the tenants are noted only when none has failed.
        """
        new = frozenset(tenants) - self._done
        if not new:
            return
        self._ingest.gone |= new
        failed: Exception | None = None
        for segment in await self._ingest.turn():
            began = time.monotonic()
            try:
                await self._ingest.rewrite(segment, partial(without, new))
            except Exception as error:
                failed = error
            await asyncio.sleep(time.monotonic() - began)
        await self._unfind(new)
        if failed:
            raise failed
        self._done |= new
        await asyncio.to_thread(replace, self._note, orjson.dumps(sorted(self._done)))


def without(tenants: Collection[str], block: bytes) -> bytes | None:
    """A block of the same length without the records of these tenants; None if it has none of them."""
    if sealing.is_sealed(block):
        return sealing.without(tenants, block)
    records = unpack(block)
    kept = [one for one in records if tenant_of(one) not in tenants]
    return repack(kept, len(block)) if len(kept) < len(records) else None
