"""Compressed batches of Kafka: those of every codec are unpacked, bombs and damage are refused."""

import gzip
import struct
from collections.abc import Callable

import pyarrow as pa
import pytest
from kafka import codec
from kafka.errors import CorruptRecordError
from kafka.record import default_records

from services.data.reading import kafka_codecs
from services.kit.errors import Code, Failure

DATA = b"a line of a log, again and again; " * 5000


def packed(kind: str, data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, kind) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def raw(data: bytes) -> bytes:
    return pa.Codec("snappy").compress(data, asbytes=True)  # type: ignore[no-any-return]


def blocks(data: bytes) -> bytes:
    """As the Java library writes snappy."""
    found = b"\x82SNAPPY\x00" + struct.pack("!ii", 1, 1)
    for start in range(0, len(data), 32_768):
        block = raw(data[start : start + 32_768])
        found += struct.pack("!i", len(block)) + block
    return found


CODECS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip_decode", gzip.compress),
    "lz4": ("lz4_decode", lambda data: packed("lz4", data)),
    "zstd": ("zstd_decode", lambda data: packed("zstd", data)),
    "snappy": ("snappy_decode", raw),
    "snappy in blocks": ("snappy_decode", blocks),
}


def unpack(kind: str, data: bytes) -> bytes:
    kafka_codecs.install()
    assert (codec.has_snappy(), codec.has_lz4(), codec.has_zstd()) == (True, True, True)
    found: bytes = getattr(default_records, CODECS[kind][0])(memoryview(data))
    return found


@pytest.mark.parametrize("kind", CODECS)
def test_what_was_packed_is_unpacked(kind: str) -> None:
    assert unpack(kind, CODECS[kind][1](DATA)) == DATA


@pytest.mark.parametrize("kind", CODECS)
def test_what_is_damaged_is_refused(kind: str) -> None:
    whole = CODECS[kind][1](DATA)
    for damaged in (whole[:-5], whole[: len(whole) // 2], b"\xff" * 100):
        with pytest.raises((CorruptRecordError, Failure)):
            print(len(unpack(kind, damaged)))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_is_refused(kind: str) -> None:
    bomb = CODECS[kind][1](bytes(65 * 2**20))
    with pytest.raises(Failure) as caught:
        unpack(kind, bomb)
    assert caught.value.code is Code.LIMIT_EXCEEDED


def test_a_block_that_lies_about_its_size_takes_no_memory() -> None:
    with pytest.raises(Failure) as caught:
        unpack("snappy", b"\xff\xff\xff\xff\x0f" + b"a" * 20)
    assert caught.value.code is Code.LIMIT_EXCEEDED
