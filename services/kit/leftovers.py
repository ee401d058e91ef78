"""What killed processes have left in a folder for files on their way to a store that is not of this machine."""

import asyncio
import logging
import os
import time
from pathlib import Path

log = logging.getLogger(__name__)

AGE = 7 * 86_400.0  # seconds without a change; far longer than any work may take
EVERY = 3600.0  # seconds between two looks


async def clear_for_ever(folder: Path, every: float = EVERY) -> None:
    """The task of a process whose store is not of this machine."""
    while True:
        await asyncio.sleep(every)
        if gone := await asyncio.to_thread(clear, folder):
            log.info("%d files of processes that were killed are gone", gone)


def clear(folder: Path, age: float = AGE) -> int:
    """Removes files that nobody has changed for `age` seconds, and folders that are empty so long; how many."""
    gone, before = 0, time.time() - age
    for here, folders, files in os.walk(folder, topdown=False):
        gone += sum(_dropped(Path(here, name), before) for name in (*files, *folders))
    return gone


def _dropped(path: Path, before: float) -> bool:
    try:
        state = path.lstat()
        if state.st_mtime >= before:
            return False
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError:  # it is not empty, or its owner was faster
        return False
    return True
