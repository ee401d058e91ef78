"""Encoded text, line by line: where a line ends in its bytes, and what they say."""

from collections import deque
from collections.abc import Iterable
from typing import BinaryIO

from services.data.reading.formats import Encoding

_BOMS = {"utf_8": b"\xef\xbb\xbf", "utf_16_le": b"\xff\xfe", "utf_16_be": b"\xfe\xff"}
_ENDS = {"utf_16_le": b"\n\0", "utf_16_be": b"\0\n"}
_BLOCK = 2**18
_NAMES = {"utf_8": "UTF-8", "utf_16_le": "UTF-16", "utf_16_be": "UTF-16", "latin_1": "ISO 8859-1"}


class Lines:
    """The lines of a file as bytes, each with its end. `begin`: where they begin, behind a byte order mark."""

    def __init__(self, file: BinaryIO, encoding: Encoding) -> None:
        """Looks at the first bytes of the file; `seek` comes next."""
        self._file = file
        file.seek(0)
        first = file.read(3)
        self._codec = _codec(encoding, first)
        self.end = _ENDS.get(self._codec, b"\n")
        bom = _BOMS.get(self._codec)
        self.begin = len(bom) if bom and first.startswith(bom) else 0
        self.name = _NAMES.get(self._codec, "windows-1252")
        self._back = deque[bytes]()

    def seek(self, offset: int) -> None:
        """To the beginning of a line."""
        self._back.clear()
        self._file.seek(offset)

    def block(self, most: int, room: int, limit: int) -> list[bytes]:
        """Whole lines, at most so many and about so many bytes, or 256 KiB; none at the end."""
        if self._back or len(self.end) > 1:
            return []
        read, found, size = self._file.readline, list[bytes](), 0
        while len(found) < most and size < min(room, _BLOCK) and (raw := read(limit)):
            found.append(raw)
            size += len(raw)
        if found and not found[-1].endswith(b"\n"):
            self.give_back(found)
            return []
        return found

    def give_back(self, lines: Iterable[bytes]) -> None:
        """What `block` gave is to be read line by line."""
        self._back.extend(lines)

    def readline(self, limit: int) -> bytes:
        """The next line, or as much of it as the limit lets through; nothing at the end of the file."""
        if self._back:
            return self._back.popleft()
        return self._file.readline(limit) if len(self.end) == 1 else self._wide(limit - limit % 2)

    def _wide(self, limit: int) -> bytes:
        """A byte 10 ends a line of UTF-16 only as the low byte of a unit whose high byte is 0."""
        line = bytearray()
        while len(line) < limit and (piece := self._file.readline(limit - len(line))):
            line += piece
            if len(line) % 2 and (other := self._file.read(1)):
                line += other
            if line.endswith(self.end):
                break
        return bytes(line)

    def text(self, raw: bytes) -> str:
        """What a line says. Raises UnicodeDecodeError."""
        return raw.decode(self._codec)

    def lossy(self, raw: bytes) -> str:
        """The same for people, whatever the bytes are."""
        return raw.decode(self._codec, errors="replace")


def _codec(encoding: Encoding, first: bytes) -> str:
    if encoding is Encoding.UTF_16:
        return "utf_16_be" if first.startswith(_BOMS["utf_16_be"]) else "utf_16_le"
    return encoding.value or Encoding.UTF_8.value
