"""Files of a data set, read from a tar archive as it comes; a stream that breaks off is gone on with."""

import asyncio
import hashlib
import tarfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence

from aimass.failures import Failure
from aimass.frames import Bridge, Bytes

_TRIES = 5  # without a file in between
_PASSING = ("unavailable", "deadline_exceeded")
Ask = Callable[[Sequence[str], str], Iterator[bytes]]
AsyncAsk = Callable[[Sequence[str], str], AsyncIterator[bytes]]


def files(ask: Ask, digests: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Digest and bytes of each file: of these digests, in their order, or of all.

    `ask` asks for the archive of digests, or of all behind one. Raises Failure: digest_mismatch when a file is another.
    """
    left, after, tries = list(digests), "", _TRIES
    while True:
        try:
            for digest, content in _members(ask(left, after)):
                if left:
                    left.pop(0)
                after, tries = digest, _TRIES
                yield digest, content
                if digests and not left:
                    return
            return
        except Failure as failure:
            tries -= 1
            if failure.code not in _PASSING or not tries:
                raise
            time.sleep(failure.retry_after or 0.2)


async def async_files(ask: AsyncAsk, digests: Sequence[str]) -> AsyncGenerator[tuple[str, bytes]]:
    """`files` for asyncio. Archives are read in a thread."""
    loop, bridges, left = asyncio.get_running_loop(), list[Bridge](), False

    def asked(digests: Sequence[str], after: str) -> Iterator[bytes]:
        if left:
            raise Failure("cancelled", "nobody waits for the files any more")
        bridges.append(Bridge(ask(digests, after), loop))
        return bridges[-1]

    found = files(asked, digests)
    try:
        while (one := await asyncio.to_thread(next, found, None)) is not None:
            yield one
    finally:
        left = True
        for bridge in bridges:
            await bridge.aclose()


def _members(pieces: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=Bytes(pieces), mode="r|") as archive:
            for member in archive:
                file = archive.extractfile(member)
                content = file.read() if file else b""
                if len(content) != member.size:
                    raise Failure("unavailable", "the archive broke off in a file")
                digest = f"sha256:{member.name}"
                found = f"sha256:{hashlib.sha256(content).hexdigest()}"
                if found != digest:
                    raise Failure("digest_mismatch", f"the bytes are {found}, not {digest}")
                yield digest, content
    except tarfile.TarError:
        raise Failure("unavailable", "the archive broke off") from None
    for _ in pieces:  # to its end, so that one that broke off there is not missed
        pass
