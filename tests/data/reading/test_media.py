"""What files are, by their first bytes; and how large images are, by formulas of the formats."""

import struct
import zlib

import pytest

from services.data.reading import media


def png(width: int, height: int) -> bytes:
    """A whole image of one colour."""
    rows = zlib.compress((b"\0" + b"\x7f" * width) * height)
    found = b"\x89PNG\r\n\x1a\n"
    for kind, body in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", rows),
        (b"IEND", b""),
    ):
        found += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return found


def jpeg(width: int, height: int, before: int = 0) -> bytes:
    """The segments up to the frame, with bytes of other segments before it."""
    exif = b"".join(b"\xff\xe1" + struct.pack(">H", 60_002) + bytes(60_000) for _ in range(before))
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8\xff\xdb" + struct.pack(">H", 67) + bytes(65) + exif + frame


def webp(kind: bytes, body: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def three(number: int) -> bytes:
    return (number - 1).to_bytes(3, "little")


LOSSY = b"\x30\x01\0\x9d\x01\x2a" + struct.pack("<HH", 640, 480) + bytes(8)
LOSSLESS = b"\x2f" + struct.pack("<I", (640 - 1) | (480 - 1) << 14) + bytes(8)
IMAGES = {
    "png": png(640, 480),
    "jpeg": jpeg(640, 480),
    "jpeg behind exif": jpeg(640, 480, 5),
    "gif": b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(10),
    "bmp": b"BM" + bytes(16) + struct.pack("<ii", 640, -480) + bytes(28),
    "lossy webp": webp(b"VP8 ", LOSSY),
    "lossless webp": webp(b"VP8L", LOSSLESS),
    "extended webp": webp(b"VP8X", bytes(4) + three(640) + three(480)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_says_how_large_it_is(name: str) -> None:
    kind = media.media_type(IMAGES[name], "a.txt", whole=True)
    assert kind == f"image/{name.split()[-1] if name != 'jpeg behind exif' else 'jpeg'}"
    assert media.size_of(IMAGES[name], kind) == (640, 480)


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("image/png", png(1, 1)[:16] + struct.pack(">II", 2**32 - 1, 1)),
        ("image/bmp", b"BM" + bytes(16) + struct.pack("<ii", 1, -(2**31))),
        ("image/bmp", b"BM" + bytes(16) + struct.pack("<ii", -1, 1)),
    ],
)
def test_a_size_that_no_image_has_is_none(kind: str, head: bytes) -> None:
    assert media.size_of(head, kind) is None


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_that_is_cut_says_nothing_or_the_same(name: str) -> None:
    whole = IMAGES[name]
    for end in range(min(len(whole), 200)):
        assert media.size_of(whole[:end], media.media_type(whole, "", True)) in (None, (640, 480))


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b"ID3\x04\0", "a", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "a", "audio/mpeg"),
        (b"RIFF\0\0\0\0WAVEfmt ", "a", "audio/wav"),
        (b"RIFF\0\0\0\0AVI LIST", "a", "video/x-msvideo"),
        (b"fLaC\0\0", "a", "audio/flac"),
        (b"OggS\0", "a", "audio/ogg"),
        (b"\0\0\0\x20ftypisom", "a", "video/mp4"),
        (b"\0\0\0\x20ftypM4A ", "a", "audio/mp4"),
        (b"\0\0\0\x14ftypqt  ", "a", "video/quicktime"),
        (b"\x1aE\xdf\xa3\x01", "a", "video/webm"),
        (b"%PDF-1.7", "a", "application/pdf"),
        (b"PK\x03\x04", "a.docx", "application/zip"),
        (b"\x00\x01\x02", "a.png", "application/octet-stream"),
        (b"words WEBP", "a.webp", "text/plain"),
        ("größer".encode(), "a.txt", "text/plain"),
        (b"# Head", "README.md", "text/markdown"),
        (b"a,b\n1,2\n", "a.csv", "text/csv"),
        (b"<p>", "A.HTML", "text/html"),
        (b"{}", "a.json", "application/json"),
        (b"#!/bin/sh", "a.exe", "text/plain"),
        (b"caf\xe9", "a.txt", "application/octet-stream"),
    ],
)
def test_a_file_is_what_it_begins_like_whatever_it_is_called(head: bytes, name: str, kind: str) -> None:
    assert media.media_type(head, name, whole=True) == kind


def test_a_text_that_is_cut_within_a_character_is_a_text() -> None:
    text = ("ä" * 10).encode()[:-1]
    assert media.text(text, whole=False) == "ä" * 9
    assert media.text(text, whole=True) is None
    assert media.text(b"\xef\xbb\xbfa", whole=True) == "a"
