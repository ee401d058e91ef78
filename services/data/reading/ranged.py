"""A file of a server that gives ranges of bytes: read where it is needed, in pieces that grow while it is read on."""

import io
from collections.abc import Callable

_FIRST, _LARGEST = 64 * 1024, 8 * 2**20  # bytes of a piece


class Ranged(io.RawIOBase):
    """Bytes of a known count; one piece of them is in memory."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        """`fetch` gives the bytes from one place up to another, all of them."""
        super().__init__()
        self._fetch, self._size = fetch, size
        self._at, self._begin, self._piece, self._next = 0, 0, b"", _FIRST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, into: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Raises what fetching does."""
        if not len(into) or self._at >= self._size:
            return 0
        if not self._begin <= self._at < self._begin + len(self._piece):
            self._get(len(into))
        found = self._piece[self._at - self._begin :][: len(into)]
        into[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _get(self, wanted: int) -> None:
        """The next piece: a larger one behind the last, a small one elsewhere."""
        on = bool(self._piece) and self._at == self._begin + len(self._piece)
        self._next = min(self._next * 4, _LARGEST) if on else _FIRST
        end = min(self._at + min(max(self._next, wanted), _LARGEST), self._size)
        self._piece, self._begin = self._fetch(self._at, end), self._at
