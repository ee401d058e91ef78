"""Unpacks a Delta table that comes as a tar archive: into a folder of its own, whole or not at all."""

import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aimass.failures import Failure
from aimass.frames import Bytes

_FILES = re.compile(r"(part-\d{5,9}\.parquet|_delta_log/\d{20}\.json)\Z")
_COPIED = 2**20


def unpack(pieces: Callable[[], Iterator[bytes]], to: Path) -> Path:
    """The folder, which must not be there before. `pieces` asks for the archive.

    Raises Failure: `already_exists`; `unavailable` when it broke off; `invalid_value` for what is no such archive.
    """
    if to.exists():
        raise Failure("already_exists", f"{to} is there already: name a new folder")
    part = to.with_name(f".{to.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "_delta_log").mkdir(parents=True)
        _fill(part, pieces())
        os.rename(part, to)
    except OSError as error:
        raise Failure("invalid_value", f"{to} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return to


def _fill(part: Path, pieces: Iterator[bytes]) -> None:
    """Only files with the names of a table, each a plain one: an archive may say anything."""
    try:
        with tarfile.open(fileobj=Bytes(pieces), mode="r|") as archive:
            for member in archive:
                if not member.isreg() or not _FILES.match(member.name):
                    raise Failure("invalid_value", f"the archive holds {member.name[:80]!r}, which no table has")
                with open(part / member.name, "xb") as file:
                    _copy(archive.extractfile(member), file, member.size)
    except tarfile.TarError:
        raise Failure("unavailable", "the archive broke off") from None
    for _ in pieces:  # to its end, so that one that broke off there is not missed
        pass
    if not any((part / "_delta_log").iterdir()):
        raise Failure("unavailable", "the archive broke off before the log of its table")


def _copy(content: Any, file: Any, size: int) -> None:
    while size and (read := content.read(min(size, _COPIED))):
        file.write(read)
        size -= len(read)
    if size:
        raise Failure("unavailable", "the archive broke off in a file")
