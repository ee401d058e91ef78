"""Blobs on a server that is killed, frozen and damaged; with other keys; with another writer."""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit.adapters import Storage
from services.kit.blobs import Blobs
from services.kit.digests import digest_of
from services.kit.errors import Code, Failure
from tests.support.refused import refused
from tests.support.servers import Program
from tests.support.storages import objects, own_server, settings, storage

pytestmark = pytest.mark.far
LARGE = os.urandom(9 * 2**20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with own_server(tmp_path_factory.mktemp("s3")) as program:
        yield program


@pytest.fixture
def env(server: Program) -> dict[str, str]:
    return settings("far", server.address)


@pytest.fixture
def stored(tmp_path: Path, env: dict[str, str]) -> Iterator[Storage]:
    made = storage(tmp_path, env)
    yield made
    made.blobs.close()


@pytest.fixture
def blobs(stored: Storage) -> Blobs:
    return stored.blobs


async def whole(blobs: Blobs, digest: str) -> bytes:
    return b"".join([piece async for piece in blobs.read("acme", digest)])


async def local(blobs: Blobs, digest: str) -> bytes:
    async with blobs.local("acme", digest) as path:
        return path.read_bytes()


async def test_damage_in_the_servers_folder_is_never_served(blobs: Blobs, server: Program) -> None:
    seeded = random.Random(7)
    for number in range(100):
        data = seeded.randbytes(seeded.randrange(1, 4000))
        digest = await blobs.put("acme", data)
        file = next(path for path in objects(server) if path.name == digest[7:])
        damaged = bytearray(data)
        if number % 4:
            damaged[seeded.randrange(len(data))] ^= 1 << seeded.randrange(8)
        else:
            del damaged[seeded.randrange(len(data)) :]
        file.write_bytes(damaged)

        for way in (blobs.get("acme", digest), whole(blobs, digest), local(blobs, digest)):
            assert (await refused(way)).code is Code.DIGEST_MISMATCH, (number, digest)


async def test_two_processes_write_one_digest(tmp_path: Path, env: dict[str, str]) -> None:
    several = [storage(tmp_path / str(number), env) for number in range(4)]
    for data in (b"small", LARGE):
        for number, one in enumerate(several):
            (one.blobs.scratch("acme") / f"{number}").write_bytes(data)
        files = [one.blobs.scratch("acme") / f"{number}" for number, one in enumerate(several)]
        digests = await asyncio.gather(
            *(one.blobs.adopt("acme", file) for one, file in zip(several, files, strict=True))
        )

        assert set(digests) == {digest_of(data)}
        assert await several[0].blobs.get("acme", digest_of(data)) == data
    for one in several:
        one.blobs.close()


async def test_a_server_that_is_killed_while_it_takes_a_blob_has_all_of_it_or_nothing(
    blobs: Blobs, server: Program
) -> None:
    for delay in (0.0, 0.02, 0.05, 0.1):
        data = os.urandom(24 * 2**20)
        file = blobs.scratch("acme") / "large"
        file.write_bytes(data)
        putting = asyncio.ensure_future(blobs.adopt("acme", file))
        await asyncio.sleep(delay)
        server.kill()
        began = time.monotonic()
        outcome = (await asyncio.gather(putting, return_exceptions=True))[0]
        assert time.monotonic() - began < 10
        server.start()

        if isinstance(outcome, BaseException):
            assert isinstance(outcome, Failure)
            assert outcome.code is Code.UNAVAILABLE
            assert not await blobs.exists("acme", digest_of(data)) or await blobs.get("acme", digest_of(data)) == data
            assert await blobs.adopt("acme", file) == digest_of(data)
        assert await blobs.get("acme", digest_of(data)) == data


async def test_a_server_that_is_away_is_said_to_be_soon(blobs: Blobs, server: Program) -> None:
    here, elsewhere = await blobs.put("acme", b"here"), await blobs.put("acme", b"elsewhere")
    assert await local(blobs, here) == b"here"
    server.kill()
    try:
        for call in (
            blobs.put("acme", b"x"),
            blobs.get("acme", here),
            blobs.exists("acme", here),
            blobs.size("acme", here),
            whole(blobs, here),
            local(blobs, elsewhere),
            blobs.delete("acme", here),
        ):
            began = time.monotonic()
            assert (await refused(call)).code is Code.UNAVAILABLE
            assert time.monotonic() - began < 3
        assert await local(blobs, here) == b"here"
    finally:
        server.start()
    assert await blobs.get("acme", here) == b"here"


async def test_a_server_that_says_nothing_is_not_waited_for(blobs: Blobs, server: Program) -> None:
    digest = await blobs.put("acme", b"here")
    server.freeze()
    await asyncio.sleep(0.1)  # what it was just doing it still does
    try:
        began = time.monotonic()
        assert (await refused(blobs.exists("acme", digest))).code is Code.UNAVAILABLE
        assert time.monotonic() - began < 8
    finally:
        server.thaw()
    assert await blobs.exists("acme", digest)


async def test_keys_that_the_server_does_not_know_are_told_from_bytes_that_are_not_there(
    tmp_path: Path, env: dict[str, str]
) -> None:
    other = storage(tmp_path, env | {"AIMASS_BLOBS_SECRET_KEY": "another"})

    assert "refuses the keys" in (await refused(other.blobs.get("acme", digest_of(b"x")))).detail
    other.blobs.close()


async def test_a_bucket_that_is_not_there_is_told_from_bytes_that_are_not_there(
    tmp_path: Path, env: dict[str, str]
) -> None:
    url = env["AIMASS_BLOBS_URL"].replace("s3://far/", "s3://none/")
    other = storage(tmp_path, env | {"AIMASS_BLOBS_URL": url})

    assert other.bucket
    for asked in (other.blobs.put("acme", b"x"), other.bucket.get("x"), other.bucket.list("blobs")):
        assert (await refused(asked)).detail == "the bucket of AIMASS_BLOBS_URL is not there"
    other.blobs.close()
