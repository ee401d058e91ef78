"""What killed processes have left in a folder for files on their way to a store that is not of this machine."""

import os
import time
from pathlib import Path

AGE = 7 * 86_400.0  # seconds without a change; far longer than any work may take


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
