"""What killed processes have left behind."""

import asyncio
import os
import time
from pathlib import Path

from services.kit.leftovers import AGE, clear, clear_for_ever


def make(path: Path, days: float = 0) -> Path:
    """A file, or a folder for a name without an ending, that was changed so long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch() if path.suffix else path.mkdir(exist_ok=True)
    age(path, days)
    return path


def age(path: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(path, (then, then), follow_symlinks=False)


def there(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_files_that_nobody_has_changed_for_a_week_are_gone_and_others_stay(tmp_path: Path) -> None:
    make(tmp_path / "tables/old.parquet", 8)
    make(tmp_path / "tables/new.parquet", 6)

    assert clear(tmp_path) == 1
    assert there(tmp_path) == {"tables", "tables/new.parquet"}


def test_folders_go_when_they_have_been_empty_so_long(tmp_path: Path) -> None:
    make(tmp_path / "acme/full/model.onnx", 1)
    make(tmp_path / "acme/empty", 8)
    make(tmp_path / "acme/begun", 1)
    age(tmp_path / "acme/full", 8)

    assert clear(tmp_path) == 1
    assert there(tmp_path) == {"acme", "acme/full", "acme/full/model.onnx", "acme/begun"}


def test_a_tree_goes_with_its_files(tmp_path: Path) -> None:
    make(tmp_path / "acme/run/part.parquet", 8)

    clear(tmp_path, age=-5)
    assert there(tmp_path) == set()


def test_what_a_link_leads_to_is_not_touched(tmp_path: Path) -> None:
    kept = make(tmp_path / "elsewhere/kept.parquet", 8)
    make(tmp_path / "passing/acme", 8)
    for name in ("folder", "file"):
        (tmp_path / "passing/acme" / name).symlink_to(kept.parent if name == "folder" else kept)
        age(tmp_path / "passing/acme" / name, 8)

    assert clear(tmp_path / "passing") == 2
    assert kept.exists()


def test_a_folder_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    assert clear(tmp_path / "none") == 0
    assert AGE > 4 * 86_400, "a training may wait for a day, thrice, and then work for a day"


async def test_a_process_looks_again_and_again(tmp_path: Path) -> None:
    looking = asyncio.create_task(clear_for_ever(tmp_path, every=0.01))
    for name in ("first.parquet", "second.parquet"):
        left = make(tmp_path / name, 8)
        async with asyncio.timeout(10):
            while left.exists():
                await asyncio.sleep(0.01)

    looking.cancel()
