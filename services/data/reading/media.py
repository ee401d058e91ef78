"""What a file is, by its first bytes and not by its name; of images also how large. Pure."""

import mimetypes
import struct

_UNKNOWN = "application/octet-stream"
_WIDEST = 2**31 - 1  # pixels, by the formats
# Bytes at an offset; of several that fit, the first counts.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"PAR1", "application/vnd.apache.parquet"),
)
_RIFF = ("image/webp", "audio/wav", "video/x-msvideo")
TEXTS = ("text/csv", "text/html", "text/markdown", "text/xml", "application/json", "application/xml")


def media_type(head: bytes, name: str, whole: bool) -> str:
    """The media type of a file that begins so; its name only says which kind of text. `whole`: this is all of it."""
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic and (kind not in _RIFF or head.startswith(b"RIFF")):
            return kind
    if text(head, whole) is None:
        return _UNKNOWN
    guessed = mimetypes.guess_type(f"file.{name.rpartition('.')[2].lower()}", strict=False)[0]
    return guessed if guessed in TEXTS else "text/plain"


def text(head: bytes, whole: bool) -> str | None:
    """The text that a file begins with; None for what is none. The end may cut a character in two."""
    for less in range(1 if whole else 4):
        try:
            found = head[: len(head) - less].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        return None if any(one < " " and one not in "\t\n\r\f\x1b" for one in found) else found
    return None


def size_of(head: bytes, kind: str) -> tuple[int, int] | None:
    """Width and height in pixels as the head of an image says; None where it does not, or says what no image has."""
    found = _said(head, kind)
    return found if found and all(0 <= side <= _WIDEST for side in found) else None


def _said(head: bytes, kind: str) -> tuple[int, int] | None:
    try:
        match kind:
            case "image/png":
                return struct.unpack_from(">II", head, 16) if head[12:16] == b"IHDR" else None
            case "image/gif":
                return struct.unpack_from("<HH", head, 6)
            case "image/bmp":
                width, height = struct.unpack_from("<ii", head, 18)
                return width, abs(height)
            case "image/jpeg":
                return _jpeg(head)
            case "image/webp":
                return _webp(head)
    except struct.error:
        pass
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """Of the first frame: the segments before it are passed by their lengths."""
    place = 2
    while place + 4 <= len(head) and head[place] == 0xFF:
        marker, length = struct.unpack_from(">xBH", head, place)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, place + 5)
            return width, height
        if length < 2:
            return None
        place += 2 + length
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", head, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            low = [int.from_bytes(head[place : place + 3], "little") + 1 for place in (24, 27)]
            return (low[0], low[1]) if len(head) >= 30 else None
    return None
