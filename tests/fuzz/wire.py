"""Bytes to a door, and the answers that come back."""

import asyncio
import re
from typing import NamedTuple

_HEAD = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n")


class Answer(NamedTuple):
    """One answer."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def name(self) -> str:
        """The request that it says it is for."""
        return self.headers.get(b"x-request-id", b"").decode("latin-1")


async def ask(port: int, data: bytes, silence: float) -> list[Answer]:
    """Sends bytes on a connection of their own; the answers until the door closes it or says nothing for a while.

    Raises ValueError for what is no row of answers.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came = b""
    try:
        writer.write(data)
        while True:
            async with asyncio.timeout(silence):
                more = await reader.read(2**16)
            if not more:
                break
            came += more
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return answers(came)


def answers(data: bytes) -> list[Answer]:
    """What came. Raises ValueError for bytes that are no row of answers."""
    found: list[Answer] = []
    while data:
        head, apart, rest = data.partition(b"\r\n\r\n")
        start = _HEAD.match(head + b"\r\n")
        if not start or not apart:
            raise ValueError(f"no answer: {data[:200]!r}")
        pairs = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        status = int(start[1])
        bare = status < 200 or status == 204 or rest.startswith(b"HTTP/1.") or not rest  # HEAD has no body
        length = 0 if bare else int(headers.get(b"content-length", b"-1"))
        if length < 0 or length > len(rest):
            raise ValueError(f"an answer without its end: {data[:200]!r}")
        if status >= 200:
            found.append(Answer(status, headers, rest[:length]))
        data = rest[length:]
    return found


def stream(data: bytes, bare: bool = True) -> tuple[list[Answer], bytes]:
    """The whole answers, and what came behind them. Raises ValueError for bytes that no answer begins with.

    Where it may be `bare`, as one to HEAD, a head with nothing behind it is an answer.
    """
    found: list[Answer] = []
    while data:
        head, apart, rest = data.partition(b"\r\n\r\n")
        if not apart:
            break
        start = _HEAD.match(head + b"\r\n")
        if not start:
            raise ValueError(f"no answer: {data[:200]!r}")
        pairs = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        status = int(start[1])
        if status < 200 or status == 204 or (bare and not rest) or rest.startswith(b"HTTP/1."):  # HEAD has no body
            content, left = b"", rest
        elif (whole := _content(headers, rest)) is None:
            break
        else:
            content, left = whole
        if status >= 200:
            found.append(Answer(status, headers, content))
        data = left
    return found, data


def _content(headers: dict[bytes, bytes], rest: bytes) -> tuple[bytes, bytes] | None:
    if headers.get(b"transfer-encoding") != b"chunked":
        length = int(headers.get(b"content-length", b"0"))
        return (rest[:length], rest[length:]) if len(rest) >= length else None
    found: list[bytes] = []
    while True:
        line, apart, rest = rest.partition(b"\r\n")
        size = int(line, 16) if apart else 0
        if not apart or len(rest) < size + 2:
            return None
        if size == 0:
            return b"".join(found), rest[2:]
        found.append(rest[:size])
        rest = rest[size + 2 :]
