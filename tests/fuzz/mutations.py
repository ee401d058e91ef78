"""Small damages to bytes, as a seeded source of chance chooses them."""

import random
import re
from collections.abc import Callable, Sequence

_DIGITS = re.compile(rb"\d+")
_NUMBERS = (
    *(b"0", b"-1", b"1", b"255", b"256", b"65535", b"65536", b"2147483647", b"2147483648", b"4294967296", b"-0"),
    *(b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"1e308"),
    *(b"1e999", b"-1e-400", b"0x10", b"007", b"1.5", b"NaN", b"Infinity", b"9" * 400, b"1_0", b"\xd9\xa3", b""),
)
_STRANGE = (
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\x00",
        b"\t",
        b"\x0b",
        b"\x7f",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"%",
    ),
    *(b"%00", b"%0d%0a", b"%2e%2e%2f", b"%ff", b"%u0041", b"\\ud800", b"\\u0000", b"\\", b'"', b"'", b"{", b"}", b"["),
    *(
        b"]",
        b":",
        b",",
        b";",
        b"=",
        b"&",
        b"?",
        b"#",
        b"/",
        b"//",
        b"..",
        b"*",
        b"null",
        b"true",
        b"{}",
        b"[]",
        b"[[[[",
    ),
    *(b" ", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\xf0\x9f\x98\x80", b"chunked", b"gzip", b"close", b"keep-alive", b"@"),
)
_LINES = (
    *(
        b"Transfer-Encoding: chunked",
        b"Content-Length: 0",
        b"Content-Length: 99999999999999999999",
        b"Expect: 100-continue",
    ),
    *(
        b"Content-Length: 4611686018427387904",
        b"Connection: close",
        b"Connection: upgrade",
        b"Upgrade: h2c",
        b"Host: x",
    ),
    *(b"Content-Encoding: gzip", b"Accept: text/event-stream", b"Accept: */*;q=2", b"Accept-Encoding: br;q=-1"),
    *(b"X-Request-Timeout: 1e-9", b"X-Request-Timeout: nan", b"X-Priority: batch", b"X-Tokens: -1", b"X-Tokens: 1e99"),
    *(
        b"X-Project: other",
        b"X-Project: \xff",
        b"traceparent: 00-0-0-zz",
        b'If-Match: ""',
        b"If-Match: *",
        b"Range: bytes=-1",
    ),
    *(
        b"Idempotency-Key: \xe9",
        b"Idempotency-Key: again",
        b"Origin: null",
        b"X-Receipt: ?1",
        b"Signature: a=::",
        b"TE: x",
    ),
    *(b"Signature-Input: aimass=();created=1", b"Content-Digest: sha-256=:x:", b"Last-Event-ID: -1", b"Cookie: a=b"),
    *(
        b"Inference-Header-Content-Length: 99999",
        b"Inference-Header-Content-Length: 0",
        b"Content-Type: application/json;x",
    ),
    *(b"Authorization: Bearer x", b"X-HTTP-Method-Override: DELETE", b"X-Forwarded-For: 10.0.0.1", b"Forwarded: for=x"),
)
Mutation = Callable[[random.Random, bytes, bytes], bytes]


def mutated(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """The data with one to five damages; parts of `other` may be in it."""
    for _ in range(chance.choice((1, 1, 1, 1, 2, 2, 3, 5))):
        data = chance.choice(MUTATIONS)(chance, data, other)
    return data


def flip(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Another bit."""
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def replace(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Some other bytes."""
    at = chance.randrange(len(data) + 1)
    new = chance.randbytes(chance.choice((1, 1, 2, 4)))
    return data[:at] + new + data[at + len(new) :]


def delete(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A part is missing."""
    start, end = _part(chance, data)
    return data[:start] + data[end:]


def double(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A part is there again, up to a hundred times."""
    start, end = _part(chance, data)
    return data[:end] + data[start:end] * chance.choice((1, 1, 2, 100)) + data[end:]


def splice(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """The beginning of one and the end of the other."""
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def number(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A number at a bound of something."""
    found = list(_DIGITS.finditer(data))
    if not found:
        return data
    one = chance.choice(found)
    return data[: one.start()] + chance.choice(_NUMBERS) + data[one.end() :]


def insert(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A line end, a NUL, a quote, or what else means something to somebody."""
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(_STRANGE) + data[at:]


def cut(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Nothing comes after some place."""
    return data[: chance.randrange(len(data) + 1)]


def line(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A header more, one twice, or one less."""
    head, apart, rest = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    at = chance.randrange(len(lines))
    match chance.randrange(4):
        case 0:
            lines.insert(at, lines[chance.randrange(len(lines))])
        case 1:
            del lines[at]
        case _:
            lines.insert(at + 1, chance.choice(_LINES))
    return b"\r\n".join(lines) + apart + rest


def many(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Something very long."""
    at = chance.randrange(len(data) + 1)
    one = chance.choice((b"a", b"\x00", b"[", b'{"a":', b"%41", b"x: y\r\n", b"\xff", b"9", b" ", b"/", b"&a=b"))
    return data[:at] + one * chance.choice((50, 500, 5_000)) + data[at:]


def swap(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Two parts change places."""
    first, last = _part(chance, data)
    middle = (first + last) // 2
    return data[:first] + data[middle:last] + data[first:middle] + data[last:]


MUTATIONS: Sequence[Mutation] = (
    *(flip, flip, flip, replace, replace, delete, double, splice, number, number, number, insert, insert, insert),
    *(cut, line, line, line, swap, many),
)


def _part(chance: random.Random, data: bytes) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((1, 1, 2, 4, 16, 64)))
