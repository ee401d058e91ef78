"""Attributes and messages of OTLP as bytes, without an object for each value: thousands are told in a second.

What a record says again and again (its tenant, its model) is written once and remembered.
"""

import struct
from functools import lru_cache
from typing import Any

from services.kit.redaction import redact

_double = struct.Struct("<d").pack
_REMEMBERED = 200  # letters of a value, at most


def varint(number: int) -> bytes:
    """A whole number from 0 on, in groups of seven bits."""
    if number < 0x80:
        return bytes((number,))
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def framed(tag: int, content: bytes) -> bytes:
    """A field of bytes, text or a message; `tag` is its number shifted by three, plus two."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    return bytes((tag,)) + varint(size) + content


def attribute(tag: int, key: str, value: Any) -> bytes:
    """One attribute: a string without its secrets, a number, a bool, bytes; what is none of these becomes its text."""
    if type(value) is float:
        return _double_head(tag, key) + _double(value)
    if type(value) is bytes:
        return _attribute(tag, key, framed(0x3A, value))
    if type(value) is int or type(value) is bool or (type(value) is str and len(value) <= _REMEMBERED):
        return _remembered(tag, key, value)
    return _attribute(tag, key, _any(value))


def _attribute(tag: int, key: str, value: bytes) -> bytes:
    return framed(tag, framed(0x0A, key.encode(errors="replace")) + framed(0x12, value))


@lru_cache(maxsize=1024)
def _double_head(tag: int, key: str) -> bytes:
    return _attribute(tag, key, b"\x21" + bytes(8))[:-8]


@lru_cache(maxsize=8192, typed=True)
def _remembered(tag: int, key: str, value: Any) -> bytes:
    return _attribute(tag, key, _any(value))


def text(value: str) -> bytes:
    """A text as a value, without its secrets."""
    return framed(0x0A, redact(value).encode(errors="replace"))


def _any(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return b"\x18" + varint(value & 2**64 - 1)
    return text(str(value))
