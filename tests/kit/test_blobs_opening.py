"""How often the store of a sealed blob is asked for it, and for how much at a time."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.kit.blobs import FolderBlobs
from services.kit.blobs_s3 import S3Blobs
from services.kit.blobs_sealed import SealedBlobs
from services.kit.copies import Copies
from services.kit.sealed import CHUNK
from tests.support.storages import settings, storage

MIB = 2**20


class Counting:
    """Counts the readings; in a bucket each of them is one request."""

    asked = 0

    async def head(self, *which: Any) -> Any:
        self.asked += 1
        return await super().head(*which)  # type: ignore[misc]

    async def piece(self, *which: Any) -> Any:
        self.asked += 1
        return await super().piece(*which)  # type: ignore[misc]


class Folder(Counting, FolderBlobs):
    """A folder that is read as a bucket is."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.at_once, self.is_far = S3Blobs.at_once, True


class Objects(Counting, S3Blobs):
    """A bucket."""


class Counted(SealedBlobs):
    """Sealed blobs of which it is known how often their store was asked."""

    under: Folder | Objects

    async def requests(self, work: Any) -> int:
        """How many a piece of work takes."""
        before = self.under.asked
        await work
        return self.under.asked - before


@pytest.fixture(params=[pytest.param("near"), pytest.param("sealed", marks=pytest.mark.far)])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Counted]:
    stored = storage(tmp_path, settings(request.param))
    assert stored.keys
    under: Folder | Objects = Folder(tmp_path / "blobs")
    if stored.bucket:
        under = Objects(stored.bucket, Copies(tmp_path / "copies", 0), tmp_path / "scratch")
    made = Counted(under, stored.keys)
    made.under = under
    yield made
    made.close()
    stored.blobs.close()


async def read(blobs: Counted, digest: str, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in blobs.read("acme", digest, offset)])


async def local(blobs: Counted, digest: str) -> None:
    async with blobs.local("acme", digest):
        pass


@pytest.mark.parametrize(
    ("size", "requests"),
    [(0, 1), (10, 1), (CHUNK, 1), (MIB, 1), (MIB + 1, 2), (5 * MIB, 2), (5 * MIB + 1, 3), (17 * MIB, 6)],
)
async def test_a_blob_takes_few_requests_for_its_size(blobs: Counted, size: int, requests: int) -> None:
    digest = await blobs.put("acme", data := os.urandom(size))

    assert await blobs.requests(read(blobs, digest)) == requests
    assert await blobs.requests(blobs.get("acme", digest)) == requests
    assert await blobs.requests(local(blobs, digest)) == requests
    assert await read(blobs, digest) == data


async def test_the_end_of_a_blob_takes_two_requests(blobs: Counted) -> None:
    digest = await blobs.put("acme", os.urandom(9 * MIB))

    for offset in (9 * MIB, 9 * MIB - 1, 8 * MIB, 6 * MIB):
        assert await blobs.requests(read(blobs, digest, offset)) == 2, offset


async def test_every_offset_and_length_gives_its_bytes_in_pieces_that_fit_a_message(blobs: Counted) -> None:
    for size in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, MIB, MIB + CHUNK, 5 * MIB, 5 * MIB + 7, 10 * MIB + 3):
        digest = await blobs.put("acme", data := os.urandom(size))
        edges = {0, 1, CHUNK, MIB - 1, MIB, MIB + 1, 5 * MIB, 9 * MIB, size - 1, size}
        for offset in sorted(edge for edge in edges if 0 <= edge <= size):
            pieces = [piece async for piece in blobs.read("acme", digest, offset)]

            assert b"".join(pieces) == data[offset:], (size, offset)
            assert all(0 < len(piece) <= MIB for piece in pieces)


async def test_one_reading_is_ahead_of_who_reads_and_is_left_when_he_leaves(blobs: Counted) -> None:
    digest = await blobs.put("acme", data := os.urandom(17 * MIB))
    tasks, asked = asyncio.all_tasks(), blobs.under.asked
    reading = blobs.read("acme", digest)
    first = await anext(reading)

    assert first == data[:MIB]
    assert blobs.under.asked - asked == 3  # the beginning, the end, and what comes next
    await reading.aclose()  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == tasks


async def test_nothing_is_read_ahead_in_a_folder(tmp_path: Path) -> None:
    class Plain(Counting, FolderBlobs):
        """A folder as it is."""

    stored, under = storage(tmp_path, {}), Plain(tmp_path / "blobs")
    assert stored.keys
    digest = await stored.blobs.put("acme", data := os.urandom(3 * MIB))
    reading = SealedBlobs(under, stored.keys).read("acme", digest)

    assert await anext(reading) == data[:MIB]
    assert under.asked == 2  # the beginning and the end
    await reading.aclose()  # type: ignore[attr-defined]
    under.close()
    stored.blobs.close()


async def test_what_is_there_and_opens_is_not_sealed_again(blobs: Counted) -> None:
    await blobs.put("acme", small := os.urandom(10))
    await blobs.put("acme", large := os.urandom(3 * MIB))

    assert await blobs.requests(blobs.put("acme", small)) == 1
    assert await blobs.requests(blobs.put("acme", large)) == 2
