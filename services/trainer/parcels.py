"""Files into a container and out of it, as tar streams. What comes out is checked."""

import io
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from services.kit.errors import Code, Failure

_PIECE = 2**20
LARGEST = 2 * 2**30  # bytes of the files of a training


def pack(files: Mapping[str, Path], folders: Collection[str], owner: int) -> Iterator[bytes]:
    """A tar stream of folders and of files by their names in it, owned by the user `owner`."""
    for name in folders:
        entry = _entry(name, owner, 0o700)
        entry.type = tarfile.DIRTYPE
        yield entry.tobuf()
    for name, path in files.items():
        entry = _entry(name, owner, 0o400)
        entry.size = left = path.stat().st_size
        yield entry.tobuf()
        with open(path, "rb") as file:
            while left and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece
        if left:
            raise Failure(Code.INTERNAL, f"{path.name} became shorter while it was read")
        yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _entry(name: str, owner: int, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.uid = entry.gid = owner
    entry.mode = mode
    return entry


def unpack(stream: Iterator[bytes], wanted: Collection[str], folder: Path) -> None:
    """Writes the wanted files of a stream into a folder, and ignores all others.

    Only regular files count, and their names never become paths. Raises internal if one is missing, limit_exceeded if
    they are too large.
    """
    missing, left = {name: folder / name for name in wanted if Path(name).name == name}, LARGEST
    with tarfile.open(fileobj=_Stream(stream), mode="r|") as archive:
        for entry in archive:
            place = missing.get(Path(entry.name).name) if entry.isreg() else None
            content = archive.extractfile(entry) if place else None
            if place is None or content is None:
                continue
            left -= entry.size
            if left < 0:
                raise Failure(Code.LIMIT_EXCEEDED, f"the work left more than {LARGEST // 2**20} MiB")
            with open(place, "xb") as file:
                while piece := content.read(_PIECE):
                    file.write(piece)
            del missing[place.name]
    if missing:
        raise Failure(Code.INTERNAL, f"the work left no {', '.join(sorted(missing))}")


class _Stream(io.RawIOBase):
    """An iterator of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        size = len(self._rest) if size < 0 else size
        found, self._rest = self._rest[:size], self._rest[size:]
        return found
