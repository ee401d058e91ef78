"""What a bucket's URL may say, and a server behind a certificate of our own authority."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.authority import Authority
from services.kit.config import ConfigError
from services.kit.digests import digest_of
from services.kit.errors import Code, Failure, Unavailable
from tests.support.storages import own_server, settings, storage


@pytest.mark.parametrize(
    "url",
    ["file:///tmp", "s3://", "s3:bucket", "http://bucket", "s3://b?endpont=http://x", "s3://b?endpoint=a&key=b", "s3"],
)
def test_a_url_that_names_no_bucket_stops_the_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="AIMASS_BLOBS_URL"):
        storage(tmp_path, {"AIMASS_BLOBS_URL": url})


def test_what_others_are_told_has_no_address_and_no_key(tmp_path: Path) -> None:
    url = "s3://bucket/some/prefix/?endpoint=http://127.0.0.1:1&region=eu-1"
    stored = storage(tmp_path, {"AIMASS_BLOBS_URL": url, "AIMASS_BLOBS_SECRET_KEY": "x"})

    assert stored.bucket
    assert stored.bucket.uri == "s3://bucket/some/prefix"
    stored.blobs.close()


@pytest.mark.far
async def test_a_disk_that_is_full_when_an_object_comes_is_said_so(tmp_path: Path) -> None:
    stored = storage(tmp_path, settings("far"))
    assert stored.bucket
    await stored.bucket.put("some", b"bytes")

    with pytest.raises(Failure) as caught:
        await stored.bucket.download("some", Path("/dev/full"))
    assert caught.value.code is Code.STORAGE_FULL
    stored.blobs.close()


@contextlib.asynccontextmanager
async def counted(port: int) -> AsyncIterator[tuple[int, Counter[bytes]]]:
    """A port that leads to another one, and how many requests of each method have gone through it."""
    said, served = Counter[bytes](), set[asyncio.Task[None]]()

    async def move(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            said[data.split(b" ", 1)[0][:8]] += 1
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await asyncio.open_connection("127.0.0.1", port)
        served.update(asyncio.create_task(one) for one in (move(reader, away), move(there, writer)))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], said
        for task in served:
            task.cancel()


@pytest.mark.far
async def test_nobody_asks_how_large_a_small_object_or_a_chunk_is(tmp_path: Path) -> None:
    env = settings("far")
    port = env["AIMASS_BLOBS_URL"].partition("127.0.0.1:")[2].partition("&")[0]
    async with counted(int(port)) as (proxied, said):
        env["AIMASS_BLOBS_URL"] = env["AIMASS_BLOBS_URL"].replace(f":{port}&", f":{proxied}&")
        stored = storage(tmp_path, env)
        assert await stored.blobs.get("acme", await stored.blobs.put("acme", b"small")) == b"small"
        upload = (await stored.uploads.begin("acme")).upload
        await stored.uploads.write("acme", upload, 0, b"chunk")
        await stored.uploads.commit("acme", upload, digest_of(b"chunk"))
        stored.blobs.close()

    assert said[b"GET"] >= 3, said
    assert said[b"HEAD"] == 0


@pytest.mark.far
async def test_bytes_of_any_size_come_back(tmp_path: Path) -> None:
    from services.kit.bucket_s3 import PIECE

    stored = storage(tmp_path, settings("far"))
    assert stored.bucket
    for size in (0, 1, PIECE, PIECE + 1):
        await stored.bucket.put("some", bytes(size))
        assert await stored.bucket.get("some") == bytes(size)
        assert b"".join([piece async for piece in stored.bucket.read("some")]) == bytes(size)
    stored.blobs.close()


@pytest.mark.far
async def test_an_endpoint_is_trusted_by_the_authority_of_the_installation(tmp_path: Path) -> None:
    authority, trust = Authority.new(), tmp_path / "trust"
    issued = authority.issue_public(["127.0.0.1"])
    for file, content in (("ca.pem", authority.pem), ("cert.pem", issued.cert), ("key.pem", issued.key)):
        trust.mkdir(exist_ok=True)
        (trust / file).write_bytes(content)
    secure = {"VGW_CERT": str(trust / "cert.pem"), "VGW_KEY": str(trust / "key.pem")}
    with own_server(tmp_path / "s3", secure) as server:
        env = settings("far", server.address.replace("http://", "https://"))
        trusting = storage(tmp_path / "home", env | {"AIMASS_TLS_DIR": str(trust)})
        digest = await trusting.blobs.put("acme", b"hello")
        assert await trusting.blobs.get("acme", digest) == b"hello"
        trusting.blobs.close()

        without = storage(tmp_path / "other", env)
        with pytest.raises(Unavailable, match="cannot be reached"):
            await without.blobs.get("acme", digest)
        without.blobs.close()
