"""What a bucket's URL may say, and a server behind a certificate of our own authority."""

from pathlib import Path

import pytest

from deploy.authority import Authority
from services.kit.config import ConfigError
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
