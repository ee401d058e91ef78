"""One bucket of an S3 server: bytes by name. The only module that speaks to it.

Every call is bounded in time; a server that is away, slow or refuses our keys is `unavailable`. Names that are not
there raise FileNotFoundError. What is written is sent with its SHA-256, which the server checks.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from services.kit.config import ConfigError
from services.kit.disk import on_disk
from services.kit.errors import Unavailable

log = logging.getLogger(__name__)
PIECE = 8 * 2**20  # bytes that are moved at once; three pieces of a large file are in memory
_QUICK, _PIECE_SECONDS = 5.0, 30.0  # what a question, and the moving of one piece, may take
_NO_BUCKET, _LOST = "NoSuchBucket", "the bucket of AIMASS_BLOBS_URL is not there"
_AT_ONCE = 1000  # objects that one request may remove
_RETRIES = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=3),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}


@dataclass(frozen=True)
class Stored:
    """An object: its name, its bytes, when the server took it, and what changes with its bytes."""

    name: str
    size: int
    time: datetime
    etag: str | None


class Bucket:
    """The objects below the prefix of a URL `s3://bucket/prefix?endpoint=...&region=...`."""

    def __init__(self, url: str, access_key: str, secret_key: str, ca: Path | None = None) -> None:
        """`ca`: a PEM file that https endpoints are trusted by, beside the system's. Raises ConfigError."""
        parts = urlsplit(url)
        asked = parse_qs(parts.query)
        if parts.scheme != "s3" or not parts.hostname or set(asked) - {"endpoint", "region"}:
            raise ConfigError("AIMASS_BLOBS_URL: must be s3://bucket/prefix?endpoint=https://host:port&region=...")
        prefix, endpoint = parts.path.strip("/"), asked.get("endpoint", [""])[0]
        # Without its query: what is told to others of this installation.
        self.uri = f"s3://{parts.hostname}/{prefix}".rstrip("/")
        options: dict[str, Any] = {"connect_timeout": "2s", "read_timeout": "10s", "timeout": "60s"}
        options["allow_http"] = endpoint.startswith("http://")
        if ca and endpoint.startswith("https://"):
            options["root_certificate"] = ca.read_text()
        where: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
        self._store = S3Store(
            parts.hostname,
            prefix=prefix or None,
            region=asked.get("region", ["us-east-1"])[0],
            access_key_id=access_key,
            secret_access_key=secret_key,
            checksum_algorithm="SHA256",
            client_options=options,  # type: ignore[arg-type]
            retry_config=_RETRIES,  # type: ignore[arg-type]
            **where,
        )

    async def create(self, name: str, data: bytes) -> bool:
        """Stores an object that was not there; False when one of this name is, which then stays as it is."""
        async with _within(_PIECE_SECONDS), _in_bucket():
            try:
                await obstore.put_async(self._store, name, data, mode="create")
            except AlreadyExistsError:
                return False
        return True

    async def put(self, name: str, data: bytes) -> None:
        """Stores an object, also over another."""
        async with _within(_PIECE_SECONDS), _in_bucket():
            await obstore.put_async(self._store, name, data, use_multipart=False)

    async def upload(self, name: str, file: Path) -> None:
        """Stores a file of any size piece by piece; the object is there when all of it is."""
        seconds = _PIECE_SECONDS * (1 + await asyncio.to_thread(os.path.getsize, file) // PIECE)
        async with _within(seconds), _in_bucket():
            await obstore.put_async(self._store, name, file, chunk_size=PIECE, max_concurrency=3)

    async def get(self, name: str) -> bytes:
        """All bytes; one request if they are few."""
        async with _within(_PIECE_SECONDS):
            found = await obstore.get_async(self._store, name)
            size: int = found.meta["size"]
            if size <= PIECE:
                return bytes(await found.bytes_async())
        return b"".join([piece async for piece in self.read(name, size)])

    async def read(self, name: str, size: int = -1) -> AsyncIterator[bytes]:
        """The bytes in pieces; asks how many there are if that is not known."""
        size = size if size >= 0 else (await self.stat(name)).size
        for start in range(0, size, PIECE):
            async with _within(_PIECE_SECONDS):
                piece = await obstore.get_range_async(self._store, name, start=start, end=min(start + PIECE, size))
            yield bytes(piece)

    async def head(self, name: str, count: int) -> tuple[bytes, int]:
        """The first bytes, and how many there are, in one request where there are some."""
        async with _within(_PIECE_SECONDS):
            try:
                found = await obstore.get_async(self._store, name, options={"range": (0, count)})
                return bytes(await found.bytes_async()), found.meta["size"]
            except BaseError:
                if (await obstore.head_async(self._store, name))["size"]:
                    raise
                return b"", 0  # of none, servers give no range

    async def piece(self, name: str, begin: int, end: int) -> bytes:
        """Some of the bytes."""
        async with _within(_PIECE_SECONDS):
            return bytes(await obstore.get_range_async(self._store, name, start=begin, end=end))

    async def download(self, name: str, file: Path, size: int = -1) -> None:
        """Adds the bytes to a file of this machine, which is made if it is not there. Raises storage_full."""
        with on_disk():
            await asyncio.to_thread(file.touch)
            async for piece in self.read(name, size):
                await asyncio.to_thread(_append, file, piece)

    async def stat(self, name: str) -> Stored:
        """What is known of an object."""
        async with _within(_QUICK):
            return _stored(await obstore.head_async(self._store, name))

    async def list(self, prefix: str) -> list[Stored]:
        """The objects whose names begin with `prefix/`, by name."""
        found: list[Stored] = []
        pages = aiter(obstore.list(self._store, prefix))
        while True:
            async with _within(_QUICK):
                if (page := await anext(pages, None)) is None:
                    return found
            found += [_stored(item) for item in page]

    async def delete(self, names: Iterable[str]) -> None:
        """Removes objects; those that are not there are no error."""
        several = list(names)
        for start in range(0, len(several), _AT_ONCE):
            async with _within(_PIECE_SECONDS):
                with contextlib.suppress(FileNotFoundError):
                    await obstore.delete_async(self._store, several[start : start + _AT_ONCE])


def _append(file: Path, piece: bytes) -> None:
    with open(file, "ab") as here:
        here.write(piece)


def _stored(item: Any) -> Stored:
    return Stored(item["path"], item["size"], item["last_modified"], item["e_tag"])


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """Bounds a call and gives its errors our names."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unavailable("the object store does not answer in time", retry_after=1) from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        log.error("the object store refuses the keys of this installation: %s", str(error)[:300])
        raise Unavailable("the object store refuses the keys of this installation") from None
    except BaseError as error:
        if _NO_BUCKET in str(error):
            raise Unavailable(_LOST) from None
        log.warning("the object store: %s", " ".join(str(error).split())[:300])
        raise Unavailable("the object store cannot be reached", retry_after=1) from None
    except FileNotFoundError as error:
        if _NO_BUCKET in str(error):
            raise Unavailable(_LOST) from None
        raise


@contextlib.asynccontextmanager
async def _in_bucket() -> AsyncIterator[None]:
    """What is not found when something is written is the bucket."""
    try:
        yield
    except FileNotFoundError:
        raise Unavailable(_LOST) from None
