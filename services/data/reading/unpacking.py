"""Compressed files as streams of their content: unpacked piece by piece, never further than they may."""

import io
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from services.data.reading.formats import Compression
from services.kit.errors import Code, FailedPrecondition, Failure

_PIECE = 256 * 1024  # bytes that are read, or unpacked, at once
_FREE = 64 * 2**20  # bytes that any file may unpack to
_RATIO = 200  # times its size, of what is larger: logs reach 20 to 100
_MAGIC = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5\x2f\xfd": Compression.ZSTD}


class Content(io.RawIOBase):
    """What a compressed file holds. `whole`: its end was reached, and it is the end of a frame."""

    def __init__(self, file: BinaryIO, kind: Compression, name: str) -> None:
        """`name` is for errors."""
        super().__init__()
        self._file, self._name = file, name
        self._unpack: Callable[[], Iterator[bytes]] = self._gzip if kind is Compression.GZIP else self._zstd
        self._restart()

    def _restart(self) -> None:
        self._file.seek(0)
        self._at, self._left, self.whole = 0, b"", False
        self._pieces = self._unpack()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """To a byte of the content: unpacks what lies before it, from the start if it lies behind."""
        if whence != io.SEEK_SET:
            raise OSError("compressed files are read from their start")
        if offset < self._at:
            self._restart()
        rest = bytearray(_PIECE)
        while self._at < offset and self.readinto(memoryview(rest)[: offset - self._at]):
            pass
        return self._at

    def readinto(self, into: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Raises failed_precondition for a damaged file, limit_exceeded for one that unpacks to too much."""
        while not self._left:
            try:
                piece = next(self._pieces, None)
            except (zlib.error, OSError):
                text = f"{self._name} is damaged behind byte {self._at} of its content: replace it or remove it"
                raise FailedPrecondition(text) from None
            if piece is None:
                return 0
            self._left = piece
        count = min(len(into), len(self._left))
        into[:count] = self._left[:count]
        self._left = self._left[count:]
        self._at += count
        if self._at > _FREE and self._at > _RATIO * self._file.tell():
            text = f"{self._name} unpacks to more than {_RATIO} times its size: if it is meant to, unpack it before"
            raise Failure(Code.LIMIT_EXCEEDED, text)
        return count

    def _gzip(self) -> Iterator[bytes]:
        """All members, one behind the other. An end inside of one is where its writer is."""
        data = b""
        while data := data.lstrip(b"\0") or self._file.read(_PIECE).lstrip(b"\0"):
            member = zlib.decompressobj(31)
            while not member.eof:
                data = data or self._file.read(_PIECE)
                if not data:
                    yield member.flush()
                    return
                yield member.decompress(data, _PIECE)
                data = member.unconsumed_tail
            data = member.unused_data
        self.whole = True

    def _zstd(self) -> Iterator[bytes]:
        import pyarrow as pa

        with pa.CompressedInputStream(pa.PythonFile(_Kept(self._file), mode="r"), "zstd") as stream:
            while True:
                try:
                    piece = stream.read(_PIECE)
                except OSError as error:
                    if "runcated" in str(error):
                        return
                    raise
                if not piece:
                    break
                yield piece
        self.whole = True


class _Kept:
    """A file that its reader cannot close."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        """Nothing."""


def compression(file: BinaryIO, said: Compression) -> Compression:
    """How a file is compressed; its first bytes say it where its source does not."""
    if said is not Compression.DETECTED:
        return said
    file.seek(0)
    begin = file.read(4)
    file.seek(0)
    return next((kind for magic, kind in _MAGIC.items() if begin.startswith(magic)), Compression.NONE)


def unpacked(file: BinaryIO, kind: Compression, name: str) -> tuple[BinaryIO, Content | None]:
    """What is to be read, and for a compressed file the stream below it, which knows whether it is whole."""
    if kind is Compression.NONE:
        return file, None
    content = Content(file, kind, name)
    return io.BufferedReader(content, _PIECE), content
