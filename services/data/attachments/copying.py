"""Copies of the documents that a run reads, by digest."""

import os
from pathlib import Path
from typing import Any, BinaryIO

from services.data.attachments.domain import Outcome, State
from services.kit.disk import on_disk


class Copying:
    """Takes the bytes of documents; `found` says of each digest where it was read and what it is."""

    def __init__(self, folder: Path, most: int) -> None:
        """`most`: bytes of all of them; one fits in any case."""
        self._folder, self._left, self._passing = folder, most, folder / "document.part"
        self._file: BinaryIO | None = None
        self.found: dict[str, tuple[list[str], Outcome]] = {}

    def fits(self, size: int) -> bool:
        return size <= self._left or not self.found

    def begin(self) -> BinaryIO:
        self.close()
        self._file = open(self._passing, "wb")  # noqa: SIM115
        return self._file

    def end(self, record: dict[str, Any]) -> None:
        digest, size = record["digest"], record["size"]
        with on_disk():
            self.close()
            os.replace(self._passing, self._folder / digest.removeprefix("sha256:"))
        if digest not in self.found:
            self._left -= size
            self.found[digest] = [], Outcome(State.KEPT, "", digest, size, record["media_type"])
        self.found[digest][0].append(record["path"])

    def close(self) -> None:
        """Closes what is open."""
        if self._file:
            self._file.close()
            self._file = None
