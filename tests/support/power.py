"""What would be there after the power has failed."""

import os
from pathlib import Path

import pytest


class Disk:
    """Notes what is brought to the disk: the bytes of files, and the names in folders, as they were then.

    A folder that is new is believed to have its own name: file systems with a journal write it down with what is in it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._files: dict[int, bytes] = {}
        self._names: dict[int, set[str]] = {}
        for call in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, call, self._note)

    def _note(self, descriptor: int) -> None:
        place, number = Path(f"/proc/self/fd/{descriptor}").resolve(), os.fstat(descriptor).st_ino
        if place.is_dir():
            self._names[number] = set(os.listdir(place))
        else:
            self._files[number] = place.read_bytes()

    def has(self, path: Path) -> bool:
        """Whether a file is there under its name, with all the bytes that it has now."""
        whole = self._files.get(path.stat().st_ino) == path.read_bytes()
        return whole and path.name in self._names.get(path.parent.stat().st_ino, ())
