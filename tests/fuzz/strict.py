"""A second reading of HTTP/1.1 (RFC 9112), by the letter: what bytes say beyond doubt, and nothing more.

Two things are let pass that move no request's end: empty lines before one (2.2), more spaces in its first line (3).
"""

import re
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_START = re.compile(rb"(" + _TOKEN + rb") +([!-~]+) HTTP/1\.([01])\Z")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t -~\x80-\xff]*?)[ \t]*\Z")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t -~\x80-\xff]*)?\Z")
_LENGTH = re.compile(rb"[0-9]{1,18}\Z")


class Message(NamedTuple):
    """One request."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes:
        """The value of a header, the last one if there are several."""
        return dict(self.headers).get(name, b"")


def read(data: bytes) -> list[Message]:
    """The requests at the beginning of a stream, up to the first thing that is not exactly as it must be."""
    found: list[Message] = []
    at = 0
    while at < len(data):
        while data[at : at + 1] in (b"\r", b"\n"):  # empty lines before a request say nothing
            at += 1
        one = _message(data, at)
        if one is None:
            break
        message, at, last = one
        found.append(message)
        if last:
            break
    return found


def _message(data: bytes, at: int) -> tuple[Message, int, bool] | None:
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        return None
    lines = data[at:end].split(b"\r\n")
    start = _START.match(lines[0])
    fields = [_FIELD.match(line) for line in lines[1:]]
    if not start or not all(fields):
        return None
    headers = [(field[1].lower(), field[2]) for field in fields if field]
    body = _body(data, end + 4, headers)
    if body is None:
        return None
    content, at = body
    options = b",".join(value.lower() for name, value in headers if name == b"connection")
    last = start[3] == b"0" or b"close" in [part.strip() for part in options.split(b",")]
    return Message(start[1], start[2], headers, content), at, last


def _body(data: bytes, at: int, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, int] | None:
    """The body and where it ends. None for a length that is said in two ways, or not well, or that is not there."""
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        return None
    if codings:
        return _chunks(data, at) if codings == [b"chunked"] else None
    if not lengths:
        return b"", at
    if not _LENGTH.match(lengths[0]) or at + int(lengths[0]) > len(data):
        return None
    return data[at : at + int(lengths[0])], at + int(lengths[0])


def _chunks(data: bytes, at: int) -> tuple[bytes, int] | None:
    found: list[bytes] = []
    while True:
        end = data.find(b"\r\n", at)
        size = _SIZE.match(data[at:end]) if end >= 0 else None
        if not size:
            return None
        at, length = end + 2, int(size[1], 16)
        if length == 0:
            return _trailers(data, at, b"".join(found))
        if data[at + length : at + length + 2] != b"\r\n":
            return None
        found.append(data[at : at + length])
        at += length + 2


def _trailers(data: bytes, at: int, body: bytes) -> tuple[bytes, int] | None:
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        line, at = data[at:end], end + 2
        if not line:
            return body, at
        if not _FIELD.match(line):
            return None
