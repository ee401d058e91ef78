"""Requests whose ends two readers may see at different places, as smugglers write them; each from a seed."""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

_LENGTHS = (
    *(b"+%d", b"-%d", b"0x%x", b"0%d", b"%d.0", b"%d,%d", b"%d, %d", b" %d ", b"\t%d", b"%d\x0b", b"%d\x00", b"%de0"),
    *(b"%d;", b"", b"abc", b"99999999999999999999", b"18446744073709551616", b"\xb2%d", b"%d\r\n %d", b"'%d'"),
)
_CODINGS = (
    *(b"chunked", b"Chunked", b"CHUNKED", b"chunked, chunked", b"gzip, chunked", b"chunked, identity", b"identity"),
    *(b"xchunked", b" chunked", b"\tchunked", b"chunked\x0b", b"chunked;q=1", b'"chunked"', b"chunked,", b",chunked"),
    *(b"chun\x00ked", b"\r\n chunked", b"chunked\r\n x", b"", b"gzip", b"chunked, gzip", b"cow, chunked"),
)
_CODING_NAMES = (
    *(b"Transfer-Encoding", b"transfer-encoding", b"Transfer-Encoding ", b" Transfer-Encoding", b"Transfer_Encoding"),
    *(b"Transfer-Encoding\t", b"Transfer-Encoding\x00", b"X: y\nTransfer-Encoding", b"X: y\rTransfer-Encoding"),
)
_SIZES = (
    *(
        b"%x",
        b"%X",
        b"0%x",
        b"0x%x",
        b"+%x",
        b"-%x",
        b" %x",
        b"%x ",
        b"%x\t",
        b"%x;a=b",
        b"%x;",
        b'%x;a="\r\n"',
        b"%x,%x",
    ),
    *(b"%x\x00", b"%x.0", b"%xg", b"ffffffffffffffff%x", b"10000000000000000%x", b"%x;\nx", b"", b"%x\r\r"),
)
_ENDS = (b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\x00\r\n", b"\x0b\r\n", b"\r\n\r\n", b"")
_STRAYS = (
    *(b"X : y", b" X: y", b"X", b": y", b"X\x00: y", b"X: y\x00z", b"X: a\rb", b"X: a\nb", b"X: a\r\n b", b"X\xff: y"),
    *(
        b"X: \xff",
        b"Content-Length",
        b"Host: other",
        b"Connection: close, content-length",
        b"X(: y",
        b"Connection: upgrade",
    ),
    *(b"Upgrade: h2c", b"Upgrade: websocket", b"Expect: 100-continue", b"Expect: 200-ok", b"Trailer: Content-Length"),
    *(b"TE: trailers", b"Content-Encoding: gzip", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
)
_VERSIONS = (
    *(b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.", b"HTTP/01.1", b""),
    *(b"HTTP/1.1\x00", b"XTTP/1.1", b"HTTP /1.1", b"HTTP/1.1 HTTP/1.1", b"HTTP/11", b"HTTP/-1.1"),
)
_TARGETS = (
    *(
        b"http://localhost/v1/models",
        b"http://other/v1/models",
        b"/v1/models#x",
        b"/v1/models\x00",
        b"*",
        b"/v1/mod els",
    ),
    *(
        b"//other/v1/models",
        b"/v1/./models",
        b"/v1/x/../models",
        b"/v1%2fmodels",
        b"/v1/models?%0d%0aX:y",
        b"\\v1\\models",
    ),
    *(b"/v1/models\t", b"/v1/mod\xc3\xa9ls", b"other:443", b"/v1/models;x=y", b"?/v1/models", b""),
)
_TRAILERS = (
    *(
        b"X: y\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"X : y\r\n",
        b"X\r\n",
        b" X: y\r\n",
        b"X: y\n",
    ),
    *(b"Authorization: Bearer x\r\n", b"Host: other\r\n", b"X: \x00\r\n"),
)


class Sent(NamedTuple):
    """Bytes for one connection, and the names of the requests that are in them, however they are read."""

    data: bytes
    names: tuple[str, ...]


class Framings:
    """An endless number of them."""

    def __init__(self, seed: int, key: str) -> None:
        """The same seed gives the same ones."""
        self._random, self._key, self._seed, self._count = random.Random(seed), key.encode(), seed, 0

    def next(self) -> Sent:
        """One request, mostly with something odd in it, another hidden in its body, and an honest one behind it."""
        names = tuple(f"f{self._seed}-{self._count}-{part}" for part in ("odd", "hidden", "behind"))
        self._count += 1
        odd, hidden, behind = (name.encode() for name in names)
        parts = _Parts(odd, self._key, self._whole(hidden))
        for change in self._random.sample(_CHANGES, self._random.choice((0, 1, 1, 1, 2, 3))):
            change(self._random, parts)
        return Sent(parts.whole() + self._whole(behind), names)

    def _whole(self, name: bytes) -> bytes:
        lines = (b"GET /v1/models/m HTTP/1.1", b"Host: localhost", b"Authorization: Bearer " + self._key)
        return b"\r\n".join((*lines, b"X-Request-Id: " + name, b"", b""))


class _Parts:
    """A request in pieces, well-formed until something is done to it."""

    def __init__(self, name: bytes, key: bytes, hidden: bytes) -> None:
        text = hidden.replace(b"\r\n", b"\\r\\n").replace(b'"', b"")
        self.body = b'{"model":"m","description":"' + text + b'"}'
        self.hidden = hidden
        self.method, self.target, self.version, self.end = b"POST", b"/v1/models", b"HTTP/1.1", b"\r\n"
        self.headers = [b"Host: localhost", b"Authorization: Bearer " + key, b"X-Request-Id: " + name]
        self.headers.append(b"Content-Type: application/json")
        self.framing: list[bytes] = [b"Content-Length: %d" % len(self.body)]
        self.coded: bytes | None = None

    def whole(self) -> bytes:
        start = b" ".join((self.method, self.target, self.version))
        head = self.end.join((start, *self.headers, *self.framing, b"", b""))
        return head + (self.body if self.coded is None else self.coded)

    def chunk(self, size: bytes = b"%x", end: bytes = b"\r\n", after: bytes = b"\r\n", trailer: bytes = b"") -> None:
        self.framing = [b"Transfer-Encoding: chunked"]
        half = len(self.body) // 2
        first, second = self.body[:half], self.body[half:]
        parts = [_filled(size, len(first)), end, first, after, b"%x\r\n" % len(second), second, b"\r\n"]
        self.coded = b"".join(parts) + b"0\r\n" + trailer + b"\r\n"


def _filled(pattern: bytes, number: int) -> bytes:
    count = pattern.count(b"%")
    return pattern % ((number,) * count) if count else pattern


def _length(random: random.Random, parts: _Parts) -> None:
    size = len(parts.body) + random.choice((0, 0, 0, -3, 5, -len(parts.body)))
    parts.framing.append(b"Content-Length: " + _filled(random.choice(_LENGTHS), abs(size)))
    if random.random() < 0.7:
        del parts.framing[0]


def _two_lengths(random: random.Random, parts: _Parts) -> None:
    other = random.choice((0, 1, len(parts.body) - 1, len(parts.body), len(parts.body) + 1))
    lines = [*parts.framing, random.choice((b"Content-Length", b"content-length")) + b": %d" % other]
    random.shuffle(lines)
    parts.framing = lines


def _coding(random: random.Random, parts: _Parts) -> None:
    kept = list(parts.framing) if random.random() < 0.5 else []
    if random.random() < 0.7:
        parts.chunk()
    line = random.choice(_CODING_NAMES) + b":" + random.choice((b" ", b"", b"\t")) + random.choice(_CODINGS)
    parts.framing = [*kept, line] if random.random() < 0.5 else [line, *kept]


def _two_codings(random: random.Random, parts: _Parts) -> None:
    parts.chunk()
    parts.framing.append(b"Transfer-Encoding: " + random.choice(_CODINGS))
    random.shuffle(parts.framing)


def _chunk_size(random: random.Random, parts: _Parts) -> None:
    parts.chunk(size=random.choice(_SIZES))


def _chunk_ends(random: random.Random, parts: _Parts) -> None:
    if random.random() < 0.5:
        parts.chunk(end=random.choice(_ENDS))
    else:
        parts.chunk(after=random.choice(_ENDS))


def _trailer(random: random.Random, parts: _Parts) -> None:
    parts.chunk(trailer=random.choice(_TRAILERS))


def _ends_early(random: random.Random, parts: _Parts) -> None:
    """The body says that it is over, and goes on with another request."""
    parts.framing = [b"Transfer-Encoding: chunked"]
    parts.coded = b"0\r\n\r\n" + parts.hidden
    if random.random() < 0.7:
        parts.framing.append(b"Content-Length: %d" % len(parts.coded))
        random.shuffle(parts.framing)


def _line_ends(random: random.Random, parts: _Parts) -> None:
    parts.end = random.choice(_ENDS)


def _one_line_end(random: random.Random, parts: _Parts) -> None:
    at = random.randrange(len(parts.headers) - 1)
    parts.headers[at : at + 2] = [parts.headers[at] + random.choice(_ENDS) + parts.headers[at + 1]]


def _stray(random: random.Random, parts: _Parts) -> None:
    lines = random.choice((parts.headers, parts.framing))
    lines.insert(random.randrange(len(lines) + 1), random.choice(_STRAYS))


def _version(random: random.Random, parts: _Parts) -> None:
    parts.version = random.choice(_VERSIONS)


def _target(random: random.Random, parts: _Parts) -> None:
    parts.target = random.choice(_TARGETS)


def _method(random: random.Random, parts: _Parts) -> None:
    methods = (b"GET", b"HEAD", b"post", b"POST ", b" POST", b"PO ST", b"POST\t", b"", b"PRI", b"CONNECT", b"\r\nPOST")
    parts.method = random.choice((*methods, b"\nPOST", b"\x00POST", b"DELETE", b"OPTIONS", b"TRACE", b"A" * 40))


def _cut(random: random.Random, parts: _Parts) -> None:
    whole = parts.whole()
    parts.coded = whole[whole.find(b"\r\n\r\n") + 4 :][: random.randrange(len(parts.body))]


_CHANGES: Sequence[Callable[[random.Random, _Parts], None]] = (
    *(_length, _two_lengths, _coding, _two_codings, _chunk_size, _chunk_ends, _trailer, _ends_early, _line_ends),
    *(_one_line_end, _stray, _version, _target, _method, _cut),
)
