"""Objects of a bucket that lie sealed: only their tenant's key opens them, whole, and where they were put."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from services.kit.bucket_s3 import PIECE, Bucket
from services.kit.errors import Code, Failure
from services.kit.sealed import CHUNK, HEAD, TAG, Box, Key, Sealer, Thing, sealed_size
from services.kit.sealed_objects import Opener, SealedObjects
from tests.support.refused import code_of
from tests.support.storages import settings, storage

WORDS = b"rows of somebody, "
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK]


class Here:
    """A process, its bucket and its objects."""

    def __init__(self, home: Path, env: dict[str, str]) -> None:
        self.home, self.storage = home, storage(home, env)
        assert self.storage.bucket
        self.bucket = self.storage.bucket
        self.objects = SealedObjects(self.bucket, self.storage.keys)

    async def downloaded(self, name: str, tenant: str = "acme") -> bytes:
        file = self.home / "here"
        file.unlink(missing_ok=True)
        await self.objects.download(tenant, name, file)
        return file.read_bytes()


@pytest.fixture
def env() -> dict[str, str]:
    return settings("sealed")


@pytest.fixture
async def here(tmp_path: Path, env: dict[str, str]) -> AsyncIterator[Here]:
    made = Here(tmp_path, env)
    tmp_path.mkdir(exist_ok=True)
    yield made
    made.storage.blobs.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [1, 31, CHUNK + TAG, 10**6])
def test_what_was_sealed_opens_in_pieces_of_any_size(tmp_path: Path, size: int, step: int) -> None:
    if step == 1 and size > CHUNK:
        step = 97
    plain, box = WORDS * (size // len(WORDS) + 1), Box(Key(1, b"k" * 32), Thing("acme", "object", "a"))
    with open(tmp_path / "sealed", "w+b") as out:
        sealer = Sealer(box, out)
        sealer.write(plain[:size])
        sealer.end()
        out.seek(0)
        sealed = out.read()
    opener = Opener(box, size)
    found = b"".join(opener.open(sealed[at : at + step]) for at in range(0, len(sealed), step))
    opener.end()

    assert hashlib.sha256(found).digest() == hashlib.sha256(plain[:size]).digest()
    assert len(sealed) == sealed_size(size)


@pytest.mark.parametrize("cut", [1, TAG, CHUNK + TAG])
def test_an_end_that_is_cut_off_is_seen(tmp_path: Path, cut: int) -> None:
    box = Box(Key(1, b"k" * 32), Thing("acme", "object", "a"))
    with open(tmp_path / "sealed", "w+b") as out:
        sealer = Sealer(box, out)
        sealer.write(b"x" * 2 * CHUNK)
        sealer.end()
        out.seek(0)
        sealed = out.read()
    opener = Opener(box, 2 * CHUNK)
    opener.open(sealed[:-cut])

    with pytest.raises(Failure) as caught:
        opener.end()
    assert caught.value.code is Code.DIGEST_MISMATCH


@pytest.mark.far
async def test_what_is_stored_lies_sealed_and_opens(here: Here) -> None:
    large = here.home / "large"
    large.write_bytes(WORDS * (PIECE // len(WORDS) + 1000))
    await here.objects.put("acme", "tables/acme/one", WORDS)
    assert await here.objects.create("acme", "tables/acme/two", WORDS)
    assert not await here.objects.create("acme", "tables/acme/two", b"other")
    await here.objects.upload("acme", "tables/acme/large", large)

    for name in ("one", "two"):
        assert await here.objects.get("acme", f"tables/acme/{name}") == WORDS
        assert await here.downloaded(f"tables/acme/{name}") == WORDS
    assert await here.downloaded("tables/acme/large") == large.read_bytes()
    for item in await here.bucket.list("tables"):
        assert WORDS not in await here.bucket.get(item.name)
    assert [path.name for path in here.home.glob("*.sealed")] == []


@pytest.mark.far
async def test_what_lay_plain_is_read_as_it_lies(here: Here) -> None:
    await here.bucket.put("tables/acme/old", WORDS)

    assert await here.objects.get("acme", "tables/acme/old") == WORDS
    assert await here.downloaded("tables/acme/old") == WORDS


@pytest.mark.far
async def test_what_was_moved_or_cut_or_is_anothers_does_not_open(here: Here) -> None:
    await here.objects.put("acme", "tables/acme/one", WORDS)
    await here.storage.keys.current("rival")  # type: ignore[union-attr]
    sealed = await here.bucket.get("tables/acme/one")
    await here.bucket.put("tables/acme/moved", sealed)
    await here.bucket.put("tables/acme/cut", sealed[:HEAD])

    for name, tenant in (("moved", "acme"), ("cut", "acme"), ("one", "rival")):
        assert await code_of(here.objects.get(tenant, f"tables/acme/{name}")) is Code.DIGEST_MISMATCH
        assert await code_of(here.downloaded(f"tables/acme/{name}", tenant)) is Code.DIGEST_MISMATCH


@pytest.mark.far
async def test_an_older_key_opens_and_a_destroyed_one_does_not(here: Here) -> None:
    keys = here.storage.keys
    assert keys
    await here.objects.put("acme", "tables/acme/one", WORDS)
    await keys.rotate("acme", 1)
    await here.objects.put("acme", "tables/acme/two", WORDS)

    assert [await here.downloaded(f"tables/acme/{name}") for name in ("one", "two")] == [WORDS, WORDS]
    await keys.shred("acme")
    assert await code_of(here.downloaded("tables/acme/one")) is Code.FAILED_PRECONDITION
    assert await code_of(here.objects.put("acme", "tables/acme/three", WORDS)) is Code.FAILED_PRECONDITION


@pytest.mark.far
async def test_a_process_without_the_key_says_what_it_lacks(here: Here, env: dict[str, str], tmp_path: Path) -> None:
    await here.objects.put("acme", "tables/acme/one", WORDS)
    other = Here(tmp_path, {name: value for name, value in env.items() if name != "AIMASS_SECRETS_KEY"})

    with pytest.raises(Failure, match="AIMASS_SECRETS_KEY is not set here") as caught:
        await other.objects.get("acme", "tables/acme/one")
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert await code_of(other.downloaded("tables/acme/one")) is Code.FAILED_PRECONDITION
    other.storage.blobs.close()


class Turning(Bucket):
    """Somebody puts the same bytes, sealed anew, to their place as soon as their head is read: so many times."""

    times, turns = 0, 0
    happens: Callable[[], Awaitable[object]]

    async def head(self, name: str, count: int) -> tuple[bytes, int]:
        found = await super().head(name, count)
        if self.turns < self.times:
            self.turns += 1
            await self.happens()
        return found


@pytest.fixture
async def turning(here: Here, env: dict[str, str]) -> Turning:
    bucket = Turning(env["AIMASS_BLOBS_URL"], env["AIMASS_BLOBS_ACCESS_KEY"], env["AIMASS_BLOBS_SECRET_KEY"])
    bucket.happens = partial(here.objects.put, "acme", "tables/acme/one", WORDS)
    await bucket.happens()
    here.objects = SealedObjects(bucket, here.storage.keys)
    return bucket


@pytest.mark.far
@pytest.mark.parametrize("times", [1, 4])
async def test_one_that_is_replaced_while_it_is_read_is_read_again(here: Here, turning: Turning, times: int) -> None:
    turning.times = times

    assert await here.downloaded("tables/acme/one") == WORDS
    assert turning.turns == times


@pytest.mark.far
async def test_one_that_is_replaced_all_the_while_is_not_read_for_ever(here: Here, turning: Turning) -> None:
    turning.times = 1000

    assert await code_of(here.downloaded("tables/acme/one")) is Code.DIGEST_MISMATCH
    assert turning.turns < 10
