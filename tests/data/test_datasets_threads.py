"""Work on files beside the event loop."""

import errno
from collections.abc import Iterator

import pytest

from services.data.datasets.threads import FileThreads
from services.kit.errors import Code, Failure


@pytest.fixture
def threads() -> Iterator[FileThreads]:
    made = FileThreads()
    yield made
    made.close()


def fail(error: Exception) -> None:
    raise error


async def test_what_the_work_returns_comes_back(threads: FileThreads) -> None:
    assert await threads.run(max, 2, 3) == 3


async def test_a_full_disk_is_said_so(threads: FileThreads) -> None:
    with pytest.raises(Failure, match="the disk is full") as caught:
        await threads.run(fail, OSError(errno.ENOSPC, "No space left on device"))
    assert caught.value.code is Code.STORAGE_FULL


async def test_another_trouble_stays_what_it_is(threads: FileThreads) -> None:
    with pytest.raises(PermissionError):
        await threads.run(fail, PermissionError(errno.EACCES, "no"))
