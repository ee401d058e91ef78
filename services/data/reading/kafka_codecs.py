"""Compressed records of Kafka, unpacked by Arrow and bounded: the client has only gzip, and no bound."""

import io
import struct
from collections.abc import Callable
from typing import Any

from services.kit.errors import Code, Failure

_MOST, _RATIO = 64 * 2**20, 200  # bytes that a batch may unpack to, and how many times its size beyond that
_XERIAL = b"\x82SNAPPY\x00"  # of the Java library: blocks with their sizes behind a header of 16 bytes


def install() -> None:
    """Gives the client all codecs that brokers know. A second time changes nothing."""
    from kafka import codec
    from kafka.record import default_records, legacy_records

    for name in ("has_gzip", "has_snappy", "has_lz4", "has_zstd"):
        setattr(codec, name, lambda: True)
    for module in (default_records, legacy_records):
        for name, decode in _DECODERS.items():
            if hasattr(module, name):
                setattr(module, name, decode)


def _stream(kind: str) -> Callable[[Any], bytes]:
    def decode(payload: Any) -> bytes:
        import pyarrow as pa

        data, bound = bytes(payload), _bound(payload)
        found = io.BytesIO()
        try:
            with pa.CompressedInputStream(pa.BufferReader(data), kind) as stream:
                while piece := stream.read(2**20):
                    found.write(piece)
                    _check(found.tell(), bound)
        except OSError:
            raise _damaged(kind) from None
        return found.getvalue()

    return decode


def snappy(payload: Any) -> bytes:
    """Raw snappy, or blocks of it."""
    data, bound = bytes(payload), _bound(payload)
    if not data.startswith(_XERIAL):
        return _block(data, bound)
    found, place = io.BytesIO(), 16
    while place < len(data):
        if place + 4 > len(data):
            raise _damaged("snappy")
        (size,) = struct.unpack_from("!i", data, place)
        if size < 0 or place + 4 + size > len(data):
            raise _damaged("snappy")
        found.write(_block(data[place + 4 : place + 4 + size], bound - found.tell()))
        place += 4 + size
    return found.getvalue()


def _block(data: bytes, bound: int) -> bytes:
    """One block; it begins with the size that it unpacks to."""
    import pyarrow as pa

    size = shift = 0
    for byte in data[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    _check(size, bound)
    try:
        found: bytes = pa.Codec("snappy").decompress(data, size, asbytes=True)
    except (OSError, pa.ArrowException):
        raise _damaged("snappy") from None
    return found


def _bound(payload: Any) -> int:
    return max(_MOST, _RATIO * len(payload))


def _check(size: int, bound: int) -> None:
    if size > bound:
        raise Failure(Code.LIMIT_EXCEEDED, "a batch of records unpacks to more than 64 MiB and 200 times its size")


def _damaged(kind: str) -> Exception:
    from kafka.errors import CorruptRecordError

    found: Exception = CorruptRecordError(f"its {kind} data cannot be unpacked")
    return found


_DECODERS: dict[str, Callable[[Any], bytes]] = {
    "gzip_decode": _stream("gzip"),
    "snappy_decode": snappy,
    "lz4_decode": _stream("lz4"),
    "zstd_decode": _stream("zstd"),
}
