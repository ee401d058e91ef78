"""Tenants whose records are kept no more: taken out of the files that have them, and out of the index.

A file is written anew with blocks of the same length, so whoever follows the records goes on where he was. A note says
who is forgotten; a pass that was broken off is made again.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import orjson

from services.kit.disk import sync
from services.logs.encoding import repack, unpack
from services.logs.ingest import sealing
from services.logs.ingest.service import Ingest
from services.logs.tables import whose


class Forgotten:
    """Who is forgotten, and who is being forgotten."""

    def __init__(self, note: Path, ingest: Ingest, unfind: Callable[[Collection[str]], Awaitable[None]]) -> None:
        """`unfind` takes the records of tenants out of the index."""
        self._note, self._ingest, self._unfind = note, ingest, unfind
        self._done: frozenset[str] = frozenset()

    async def load(self) -> None:
        """Takes what is noted: of those nothing is kept from the start on."""
        with contextlib.suppress(FileNotFoundError):
            self._done = frozenset(orjson.loads(await asyncio.to_thread(self._note.read_bytes)))
        self._ingest.gone |= self._done

    async def forget(self, tenants: Sequence[str]) -> None:
        """Keeps nothing of tenants from now on, and takes out what there is, in half of the time.

        Takes out all that it can before it says what fails; until nothing does, they are not noted.
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
        await asyncio.to_thread(self._write)

    def _write(self) -> None:
        passing = self._note.with_suffix(".new")
        passing.write_bytes(orjson.dumps(sorted(self._done)))
        sync(passing)
        os.replace(passing, self._note)
        sync(self._note.parent)


def without(tenants: Collection[str], block: bytes) -> bytes | None:
    """A block of the same length with the records of other tenants; None where all are others'."""
    if sealing.is_sealed(block):
        return sealing.without(tenants, block)
    records = unpack(block)
    kept = [one for one in records if whose(one) not in tenants]
    return repack(kept, len(block)) if len(kept) < len(records) else None
