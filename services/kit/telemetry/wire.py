"""OTLP's protobuf wire format, written directly: there are thousands of records a second, and no objects are needed.

Attributes that come again and again (tenant, model) are encoded once and cached.
"""

import struct
from functools import lru_cache
from typing import Any

from services.kit.redaction import redact

_double = struct.Struct("<d").pack
_CACHED = 200  # characters of a value that is cached, at most


def varint(number: int) -> bytes:
    """A non-negative integer as a varint."""
    if number < 0x80:
        return bytes((number,))
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def framed(tag: int, content: bytes) -> bytes:
    """A length-delimited field; `tag` is its number shifted by three, plus two."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    return bytes((tag,)) + varint(size) + content


def attribute(tag: int, key: str, value: Any) -> bytes:
    """A KeyValue: a number, a bool, bytes, or a string without secrets; any other value as its `str`."""
    if type(value) is float:
        return _double_head(tag, key) + _double(value)
    if type(value) is bytes:
        return _attribute(tag, key, framed(0x3A, value))
    if type(value) is int or type(value) is bool or (type(value) is str and len(value) <= _CACHED):
        return _cached(tag, key, value)
    return _attribute(tag, key, _any(value))


def _attribute(tag: int, key: str, value: bytes) -> bytes:
    return framed(tag, framed(0x0A, key.encode(errors="replace")) + framed(0x12, value))


@lru_cache(maxsize=1024)
def _double_head(tag: int, key: str) -> bytes:
    return _attribute(tag, key, b"\x21" + bytes(8))[:-8]


@lru_cache(maxsize=8192, typed=True)
def _cached(tag: int, key: str, value: Any) -> bytes:
    return _attribute(tag, key, _any(value))


def text(value: str) -> bytes:
    """An AnyValue with a string, without secrets."""
    return framed(0x0A, redact(value).encode(errors="replace"))


def _any(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return b"\x18" + varint(value & 2**64 - 1)
    return text(str(value))
