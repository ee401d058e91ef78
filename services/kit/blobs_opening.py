"""Opening blobs that lie sealed, in as few readings of their store as memory allows."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from services.kit.blobs import CHUNK as PIECE
from services.kit.blobs import Blobs
from services.kit.errors import Failure
from services.kit.sealed import CHUNK, HEAD, Box, Thing, box_of, chunks_in, damaged, number_of, plain_size, span
from services.kit.tenant_keys import TenantKeys

KIND = "blob"


class Under(Blobs, Protocol):
    """A store of blobs that keeps what it is given, and gives it back as it lies. Its methods raise not_found."""

    at_once: int  # bytes that one reading should bring
    is_far: bool  # whether a reading is waited for, so that the next one is to be on its way

    async def keep(self, tenant: str, file: Path, digest: str) -> None:
        """Takes a file of this machine over, also over what is there, under a name that is not checked."""

    async def head(self, tenant: str, digest: str, count: int) -> tuple[bytes, int]:
        """The first bytes, and how many there are."""

    async def piece(self, tenant: str, digest: str, begin: int, end: int) -> bytes:
        """Some of the bytes."""


class Found(NamedTuple):
    """A blob that lies sealed: what opens it, how many plain bytes it has, and how it begins as it lies."""

    box: Box
    size: int
    begun: bytes

    @property
    def final(self) -> int:
        """The number of the last chunk."""
        return max(0, -(-self.size // CHUNK) - 1)


class Opening:
    """Finds and opens sealed blobs."""

    def __init__(self, under: Under, keys: TenantKeys) -> None:
        self._under, self._keys = under, keys

    async def find(self, tenant: str, digest: str, count: int = HEAD) -> Found | None:
        """What opens a blob, with so many of its bytes; None for one that lies plain. Raises not_found."""
        begun, size = await self._under.head(tenant, digest, count)
        if not (number := number_of(begun)):
            return None
        box = box_of(begun[:HEAD], await self._keys.find(tenant, number), Thing(tenant, KIND, digest))
        return Found(box, plain_size(size, digest), begun)

    async def pieces(self, tenant: str, digest: str, found: Found, offset: int) -> AsyncGenerator[bytes]:
        """The plain bytes from an offset on. The end is opened first: it says that nothing was cut off."""
        first, tail, runs = _plan(found, offset, self._under.at_once // CHUNK)
        end = await self.run(tenant, digest, found, tail, found.final + 1 - tail)
        skip = offset - first * CHUNK
        async with contextlib.aclosing(self._ahead(tenant, digest, found, runs)) as opened:
            async for plain in opened:
                for piece in _cut(plain, skip):
                    yield piece
                skip = 0
        for piece in _cut(end, max(0, offset - tail * CHUNK)):
            yield piece

    async def _ahead(
        self, tenant: str, digest: str, found: Found, runs: Sequence[tuple[int, int]]
    ) -> AsyncGenerator[bytes]:
        """Runs of chunks; of what is far, while one is used the next one comes."""
        if not self._under.is_far:
            for run in runs:
                yield await self.run(tenant, digest, found, *run)
            return
        coming: asyncio.Task[bytes] | None = None
        try:
            for after in [*runs, None]:
                here, coming = coming, asyncio.create_task(self.run(tenant, digest, found, *after)) if after else None
                if here:
                    yield await here
        finally:
            if coming:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def run(self, tenant: str, digest: str, found: Found, first: int, count: int) -> bytes:
        """Some chunks. If others have come to their place meanwhile, sealed anew, those."""
        begin, end, ends = span(first, count, found.size)
        while True:
            here = end <= len(found.begun)
            sealed = found.begun[begin:end] if here else await self._under.piece(tenant, digest, begin, end)
            try:
                if len(sealed) != end - begin:
                    raise damaged(digest)
                return await asyncio.to_thread(found.box.open_run, first, sealed, ends)
            except Failure:
                now = await self.find(tenant, digest)
                if now is None or now.size != found.size or now.box.head == found.box.head:
                    raise
                found = now


def _plan(found: Found, offset: int, most: int) -> tuple[int, int, list[tuple[int, int]]]:
    """The first chunk of a reading; the first one of its end, which is one run, or one chunk; the runs between them."""
    first = min(offset // CHUNK, found.final)
    away = max(first, chunks_in(len(found.begun), found.size))
    if away > found.final:
        return first, first, []
    tail = away if found.final + 1 - away <= most else found.final
    here = [(first, away - first)] if away > first else []
    return first, tail, here + [(run, min(most, tail - run)) for run in range(away, tail, most)]


def _cut(plain: bytes, skip: int) -> Iterator[bytes]:
    """Pieces as readers expect them."""
    for begin in range(skip, len(plain), PIECE):
        yield plain[begin : begin + PIECE]
