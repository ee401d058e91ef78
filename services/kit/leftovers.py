"""Files that killed processes have left in a scratch folder."""

import asyncio
import logging
import os
import time
from pathlib import Path

log = logging.getLogger(__name__)

AGE = 7 * 86_400.0  # seconds since the last change; longer than any work may take
EVERY = 3600.0  # seconds between two rounds


async def clear_for_ever(folder: Path, every: float = EVERY) -> None:
    """The task that clears a scratch folder."""
    while True:
        await asyncio.sleep(every)
        if gone := await asyncio.to_thread(clear, folder):
            log.info("removed %d files that killed processes had left", gone)


def clear(folder: Path, age: float = AGE) -> int:
    """Removes files and empty folders that have not changed for `age` seconds; returns how many."""
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
    except OSError:  # a folder with files, or gone already
        return False
    return True
