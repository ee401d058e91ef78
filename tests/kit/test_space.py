"""How full the disk may be: what is large waits, what has come stays, and the disk is not asked all the time."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.kit.adapters import Storage
from services.kit.digests import digest_of
from services.kit.errors import Code, Failure
from services.kit.space import BoundedUploads, Space
from tests.support.storages import BOTH, settings, storage


def used(folder: Path) -> float:
    """Percent of a disk, as df says it."""
    found = shutil.disk_usage(folder)
    return 100 * found.used / (found.used + found.free)


def test_a_disk_that_is_less_full_takes_all(tmp_path: Path) -> None:
    Space(tmp_path, min(int(used(tmp_path)) + 5, 100)).check()


def test_one_that_is_as_full_takes_nothing_large(tmp_path: Path) -> None:
    space = Space(tmp_path, max(int(used(tmp_path)) - 5, 0))
    with pytest.raises(Failure, match=r"% of the disk are used: nothing large is written from \d+ % on") as caught:
        space.check()

    assert caught.value.code is Code.STORAGE_FULL


def test_the_disk_is_asked_once_a_second(tmp_path: Path) -> None:
    seconds, folder = [0.0], tmp_path / "disk"
    folder.mkdir()
    space = Space(folder, 0, lambda: seconds[0])
    with pytest.raises(Failure):
        space.check()
    folder.rmdir()  # nothing there to ask: what is written would say itself what is wrong
    seconds[0] = 0.9
    with pytest.raises(Failure):
        space.check()
    seconds[0] = 1.0
    space.check()


@dataclass
class Started:
    """An upload of two bytes, on a disk that has room or is full."""

    kept: Storage
    well: BoundedUploads
    full: BoundedUploads
    upload: str = ""


@pytest.fixture(params=BOTH)
async def started(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Started]:
    kept = storage(tmp_path, settings(request.param))
    well, full = (BoundedUploads(kept.uploads, Space(tmp_path, percent)) for percent in (100, 0))
    made = Started(kept, well, full)
    made.upload = (await made.well.begin("acme")).upload
    await made.well.write("acme", made.upload, 0, b"ab")
    yield made
    kept.blobs.close()


async def test_an_upload_waits_while_the_disk_is_full_and_goes_on_afterwards(started: Started) -> None:
    well, full, upload = started.well, started.full, started.upload
    for refused in (
        full.begin("acme"),
        full.write("acme", upload, 2, b"c"),
        full.commit("acme", upload, digest_of(b"ab")),
    ):
        with pytest.raises(Failure) as caught:
            await refused
        assert caught.value.code is Code.STORAGE_FULL

    assert (await full.status("acme", upload)).size == 2
    await well.write("acme", upload, 2, b"c")
    assert (await well.commit("acme", upload, digest_of(b"abc"))).digest == digest_of(b"abc")
    assert await started.kept.blobs.get("acme", digest_of(b"abc")) == b"abc"


async def test_what_is_committed_is_said_again_while_the_disk_is_full(started: Started) -> None:
    """Whoever lost the answer asks again: his upload is there, and must not look as if it were refused."""
    committed = await started.well.commit("acme", started.upload, digest_of(b"ab"))

    assert await started.full.commit("acme", started.upload, digest_of(b"ab")) == committed
