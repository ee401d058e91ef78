"""Encoded text, line by line: where a line ends in its bytes, and what they say."""

from typing import BinaryIO

from services.data.reading.formats import Encoding

_BOMS = {"utf_8": b"\xef\xbb\xbf", "utf_16_le": b"\xff\xfe", "utf_16_be": b"\xfe\xff"}
_ENDS = {"utf_16_le": b"\n\0", "utf_16_be": b"\0\n"}
_MOST = 2**20  # bytes that are taken at once: no line among them is longer than one may be
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
        # What was taken from the file and not handed out yet, and how much of it was since.
        self._held, self._at = b"", 0

    def seek(self, offset: int) -> None:
        """To the beginning of a line."""
        self._held, self._at = b"", 0
        self._file.seek(offset)

    def block(self, most: int, room: int) -> bytes:
        """Whole lines, at most so many and about so many bytes, or 1 MiB; none at the end, and of UTF-16."""
        if len(self.end) > 1:
            return b""
        size = min(room, _MOST)
        found = self._held[self._at : self._at + size]
        self._at += len(found)
        found += self._file.read(size - len(found))
        end = found.rfind(b"\n") + 1
        if found.count(b"\n", 0, end) > most:
            end = 0
            for _ in range(most):
                end = found.index(b"\n", end) + 1
        self.give_back(found[end:])
        return found[:end]

    def give_back(self, lines: bytes) -> None:
        """What `block` gave comes again."""
        self._held, self._at = lines + self._held[self._at :], 0

    def readline(self, limit: int) -> bytes:
        """The next line, or as much of it as the limit lets through; nothing at the end of the file."""
        if len(self.end) > 1:
            return self._wide(limit - limit % 2)
        if self._at == len(self._held):
            return self._file.readline(limit)
        last = min(self._at + limit, len(self._held))
        end = self._held.find(b"\n", self._at, last) + 1 or last
        line, self._at = self._held[self._at : end], end
        if not line.endswith(b"\n") and len(line) < limit:
            line += self._file.readline(limit - len(line))
        return line

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
