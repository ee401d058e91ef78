"""Uploads on S3 that are broken off at any point, by clients, by processes and by the server."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit.adapters import Storage
from services.kit.digests import digest_of
from services.kit.errors import Code, Failure
from services.kit.uploads import Uploads
from tests.support.servers import Program
from tests.support.storages import objects, own_server, settings, storage

pytestmark = pytest.mark.far


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with own_server(tmp_path_factory.mktemp("s3")) as program:
        yield program


@pytest.fixture
def pair(tmp_path: Path, server: Program) -> Iterator[tuple[Storage, Storage]]:
    """Two processes of one installation."""
    env = settings("far", server.address)
    made = storage(tmp_path / "one", env), storage(tmp_path / "two", env)
    yield made
    for one in made:
        one.blobs.close()


async def begun(uploads: Uploads, *chunks: bytes) -> str:
    """An upload with these chunks."""
    upload, size = (await uploads.begin("acme")).upload, 0
    for chunk in chunks:
        size = (await uploads.write("acme", upload, size, chunk)).size
    return upload


def parts(home: Path) -> list[Path]:
    """What a process puts together."""
    return [path for path in (home / "cache" / "scratch").rglob("*") if path.is_file()]


class Client:
    """Sends a file in chunks to whichever process answers, and goes on where it is told to."""

    def __init__(self, several: tuple[Storage, Storage], seed: int) -> None:
        self.random = random.Random(seed)
        self.several, self.data = several, self.random.randbytes(self.random.randrange(1, 5000))

    @property
    def uploads(self) -> Uploads:
        return self.random.choice(self.several).uploads

    async def send(self, upload: str) -> None:
        """All of it; one call in three is broken off and its answer lost."""
        offset = 0
        while offset < len(self.data):
            chunk = self.data[offset : offset + self.random.randrange(1, 2000)]
            try:
                async with asyncio.timeout(self.random.choice((30, 30, 0.004))):
                    offset = (await self.uploads.write("acme", upload, offset, chunk)).size
            except TimeoutError:
                offset = (await self.uploads.status("acme", upload)).size
            except Failure as failure:
                assert failure.code is Code.WRONG_OFFSET
                offset = failure.committed_size

    async def commit(self, upload: str) -> None:
        """Until it is said to be done."""
        while True:
            try:
                async with asyncio.timeout(self.random.choice((30, 0.01, 0.004))):
                    await self.uploads.commit("acme", upload, digest_of(self.data))
                    return
            except TimeoutError:
                continue


async def test_two_hundred_broken_uploads_are_whole_or_not_there(pair: tuple[Storage, Storage]) -> None:
    for seed in range(200):
        client = Client(pair, seed)
        upload = (await client.uploads.begin("acme")).upload
        await client.send(upload)
        assert not await pair[0].blobs.exists("acme", digest_of(client.data)), seed
        if seed % 5 == 0:
            with pytest.raises(Failure) as caught:
                await client.uploads.commit("acme", upload, digest_of(client.data + b"x"))
            assert caught.value.code is Code.DIGEST_MISMATCH
            assert not await pair[0].blobs.exists("acme", digest_of(client.data)), seed
        else:
            await client.commit(upload)
            assert await pair[1].blobs.get("acme", digest_of(client.data)) == client.data, seed


async def test_a_chunk_that_was_broken_off_is_sent_again_and_no_other(pair: tuple[Storage, Storage]) -> None:
    upload = (await pair[0].uploads.begin("acme")).upload
    for offset in range(0, 5000, 1000):
        await pair[0].uploads.write("acme", upload, offset, bytes(1000))

    with pytest.raises(Failure) as caught:
        await pair[1].uploads.write("acme", upload, 4000, bytes(1000))
    assert caught.value.committed_size == 5000


async def test_a_server_that_dies_in_a_commit_leaves_an_upload_that_can_be_committed(
    pair: tuple[Storage, Storage], server: Program
) -> None:
    data = random.Random(3).randbytes(24 * 2**20)
    for delay in (0.0, 0.05, 0.1, 0.2):
        pieces = (data[offset : offset + 8 * 2**20] for offset in range(0, len(data), 8 * 2**20))
        upload = await begun(pair[0].uploads, *pieces)
        committing = asyncio.ensure_future(pair[0].uploads.commit("acme", upload, digest_of(data)))
        await asyncio.sleep(delay)
        server.kill()
        outcome = (await asyncio.gather(committing, return_exceptions=True))[0]
        server.start()

        assert not isinstance(outcome, Failure) or outcome.code is Code.UNAVAILABLE
        assert (await pair[1].uploads.commit("acme", upload, digest_of(data))).size == len(data)
        assert await pair[1].blobs.get("acme", digest_of(data)) == data
        await pair[1].blobs.delete("acme", digest_of(data))


async def test_a_commit_goes_on_when_nobody_waits_for_it(pair: tuple[Storage, Storage], tmp_path: Path) -> None:
    upload = await begun(pair[0].uploads, bytes(24 * 2**20))
    committing = asyncio.ensure_future(pair[0].uploads.commit("acme", upload, digest_of(bytes(24 * 2**20))))
    while not parts(tmp_path / "one"):
        await asyncio.sleep(0.001)
    committing.cancel()
    async with asyncio.timeout(30):
        while not (status := await pair[1].uploads.status("acme", upload)).digest:
            await asyncio.sleep(0.05)

    assert status.size == 24 * 2**20


async def test_who_commits_again_waits_for_the_work_that_runs(pair: tuple[Storage, Storage], tmp_path: Path) -> None:
    data = bytes(range(256)) * 2**17
    upload, most = await begun(pair[0].uploads, data), 0
    several = [asyncio.ensure_future(pair[0].uploads.commit("acme", upload, digest_of(data))) for _ in range(5)]
    while not all(one.done() for one in several):
        most = max(most, len(parts(tmp_path / "one")))
        await asyncio.sleep(0.005)

    assert {(await one).digest for one in several} == {digest_of(data)}
    assert most == 1


async def test_processes_that_commit_the_same_upload_are_all_told_that_it_is_done(
    pair: tuple[Storage, Storage],
) -> None:
    for seconds in (0.0, 0.02, 0.05, 0.1):
        upload = await begun(pair[0].uploads, *(bytes(1000) for _ in range(20)))
        first = asyncio.ensure_future(pair[0].uploads.commit("acme", upload, digest_of(bytes(20000))))
        await asyncio.sleep(seconds)
        outcomes = await asyncio.gather(first, pair[1].uploads.commit("acme", upload, digest_of(bytes(20000))))
        assert [one.size for one in outcomes] == [20000, 20000]


async def test_a_committed_upload_leaves_its_note_and_its_bytes_and_nothing_else(
    tmp_path: Path, pair: tuple[Storage, Storage], server: Program
) -> None:
    there = set(objects(server))
    upload = (await pair[0].uploads.begin("acme")).upload
    await pair[0].uploads.write("acme", upload, 0, b"left alone")
    await pair[0].uploads.commit("acme", upload, digest_of(b"left alone"))

    assert sorted(path.name for path in set(objects(server)) - there) == sorted(["done", digest_of(b"left alone")[7:]])


async def test_what_a_crash_left_beside_a_note_is_collected(pair: tuple[Storage, Storage]) -> None:
    uploads, bucket = pair[0].uploads, pair[0].bucket
    assert bucket
    upload = (await uploads.begin("acme")).upload
    await uploads.commit("acme", upload, digest_of(b""))
    await bucket.put(f"uploads/acme/{upload}/{0:020d}", b"late")
    await uploads.collect(age=-5)

    assert [item.name.rpartition("/")[2] for item in await bucket.list(f"uploads/acme/{upload}")] == ["done"]
    assert (await uploads.status("acme", upload)).digest == digest_of(b"")


async def test_an_upload_has_so_many_chunks_at_most(
    pair: tuple[Storage, Storage], monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.kit import uploads_s3

    monkeypatch.setattr(uploads_s3, "_MOST", 3)
    upload = (await pair[0].uploads.begin("acme")).upload
    for offset in range(3):
        await pair[0].uploads.write("acme", upload, offset, b"x")

    with pytest.raises(Failure) as caught:
        await pair[0].uploads.write("acme", upload, 3, b"x")
    assert caught.value.code is Code.LIMIT_EXCEEDED
