"""What a full disk is called."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

import pytest

from services.kit.blobs import FolderBlobs
from services.kit.disk import clear, locked, on_disk, replace, sync
from services.kit.errors import Code, Failure


def test_a_write_that_finds_no_space_is_storage_full() -> None:
    with pytest.raises(Failure, match="the disk is full") as caught, on_disk():
        Path("/dev/full").write_bytes(b"x")

    assert caught.value.code is Code.STORAGE_FULL


def test_an_engine_that_only_says_so_is_heard() -> None:
    with pytest.raises(Failure, match="the disk is full"), on_disk():
        raise OSError("Generic LocalFileSystem error: No space left on device (os error 28)")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_another_trouble_stays_what_it_is(number: int) -> None:
    with pytest.raises(OSError) as caught, on_disk():  # noqa: PT011
        raise OSError(number, "no")

    assert caught.value.errno == number


def test_a_file_that_is_replaced_is_the_old_one_until_the_new_one_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "no")

    file = tmp_path / "note"
    replace(file, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="no"):
            replace(file, b"new")
    assert file.read_bytes() == b"old"

    replace(file, b"new")
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_synced_or_locked_is_not_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "no")

    before = len(os.listdir("/proc/self/fd"))
    sync(tmp_path)
    with locked(tmp_path):
        pass
    monkeypatch.setattr(os, "fsync", broken)
    with contextlib.suppress(OSError):
        sync(tmp_path)

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("error", [errno.ENOENT, errno.ENOTEMPTY], ids=["removed by others", "added by others"])
def test_a_folder_is_cleared_while_others_work_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    remove, tries = shutil.rmtree, []

    def meanwhile(folder: Path) -> None:
        tries.append(folder)
        if len(tries) < 3:
            raise OSError(error, "somebody was here")
        remove(folder)

    monkeypatch.setattr(shutil, "rmtree", meanwhile)
    (tmp_path / "acme/rows").mkdir(parents=True)
    clear(tmp_path / "acme")

    assert list(tmp_path.iterdir()) == []


async def test_a_near_store_whose_disk_is_full_says_so(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    with pytest.raises(Failure) as caught:
        await blobs.run(Path("/dev/full").write_bytes, b"x")
    blobs.close()

    assert caught.value.code is Code.STORAGE_FULL
