"""Files of a data set in one stream: checked one by one, and gone on with where it breaks off."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from hashlib import sha256

import pytest

from aimass import Failure
from aimass.files import async_files, files
from services.data import archive

CONTENTS = [b"one" * 10_000, b"two" * 10_000, b"", b"four" * 10_000]
FILES = {f"sha256:{sha256(content).hexdigest()}": content for content in CONTENTS}
SORTED = sorted(FILES.items())


def written(digests: Sequence[str], wrong: bytes = b"") -> bytes:
    found = b""
    for digest in digests:
        content = wrong or FILES[digest]
        found += archive.begin(digest.removeprefix("sha256:"), len(content)) + content + archive.fill(len(content))
    return found + archive.END


class Server:
    """Sends archives, of which the first ones break off behind so many bytes."""

    def __init__(self, *breaks: int) -> None:
        self.breaks, self.asked = list(breaks), list[tuple[list[str], str]]()

    async def ask_async(self, digests: Sequence[str], after: str) -> AsyncIterator[bytes]:
        for piece in self.ask(digests, after):
            yield piece

    def ask(self, digests: Sequence[str], after: str) -> Iterator[bytes]:
        self.asked.append((list(digests), after))
        data = written(list(digests) or [digest for digest, _ in SORTED if digest > after])
        end = self.breaks.pop(0) if self.breaks else None
        for begin in range(0, len(data[:end]), 100):
            yield data[:end][begin : begin + 100]
        if end is not None:
            raise Failure("unavailable", "the connection broke")


def test_all_files_come_once_however_often_the_stream_breaks() -> None:
    server = Server(0, 35_000, 45_000)
    assert list(files(server.ask, [])) == SORTED
    assert len(server.asked) == 4


def test_chosen_files_come_in_their_order() -> None:
    chosen = sorted(FILES, reverse=True)
    server = Server(70_000)
    assert list(files(server.ask, chosen)) == [(digest, FILES[digest]) for digest in chosen]
    assert len(server.asked[1][0]) < len(chosen)


async def test_asyncio_gets_the_same_files() -> None:
    server = Server(0, 35_000)
    assert [one async for one in async_files(server.ask_async, [])] == SORTED
    assert len(server.asked) == 3
    async with contextlib.aclosing(async_files(Server().ask_async, [SORTED[1][0]])) as some:
        async for one in some:
            assert one == SORTED[1]
            break
    broken = Server(*[10] * 100)
    with pytest.raises(Failure, match="the connection broke"):
        [one async for one in async_files(broken.ask_async, [])]


def test_a_file_that_is_another_is_not_given() -> None:
    def ask(digests: Sequence[str], after: str) -> Iterator[bytes]:
        yield written(digests, wrong=b"others")

    with pytest.raises(Failure) as failure:
        list(files(ask, [SORTED[0][0]]))
    assert failure.value.code == "digest_mismatch"


def test_a_stream_that_never_gets_on_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aimass.files.time.sleep", lambda seconds: None)
    server = Server(*[10] * 100)
    with pytest.raises(Failure) as failure:
        list(files(server.ask, []))
    assert (failure.value.code, len(server.asked)) == ("unavailable", 5)
