"""What a full disk is called."""

import errno
import shutil
from pathlib import Path

import pytest

from services.kit.blobs import FolderBlobs
from services.kit.disk import clear, on_disk
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
