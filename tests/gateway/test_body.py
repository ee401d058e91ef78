import asyncio
from typing import Any

import pytest

from services.gateway import body
from services.kit.errors import Code, Failure


class Sent:
    """What a client sends, a part each time it is asked."""

    def __init__(self, *parts: bytes, wait: float = 0.0, ends: bool = True) -> None:
        self._parts, self._wait, self._ends = list(parts), wait, ends
        self.taken = 0

    async def __call__(self) -> dict[str, Any]:
        await asyncio.sleep(self._wait)
        if not self._parts:
            return {"type": "http.disconnect"}
        self.taken += 1
        part = self._parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(self._parts) or not self._ends}


def length(value: int | str) -> dict[bytes, bytes]:
    return {b"content-length": str(value).encode()}


CHUNKED = {b"transfer-encoding": b"chunked"}


async def test_parts_become_one() -> None:
    assert await body.read(Sent(b"ab", b"", b"c"), CHUNKED, 10) == b"abc"
    assert await body.read(Sent(b"abc"), length(3), 3) == b"abc"


async def test_nothing_is_waited_for_when_nothing_was_announced() -> None:
    sent = Sent(b"never")

    assert await body.read(sent, {}, 10) == b""
    assert sent.taken == 0


@pytest.mark.parametrize("headers", [length(12), CHUNKED])
async def test_more_than_the_limit_is_refused(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(Failure, match="larger than 0 MiB") as caught:
        await body.read(Sent(b"123456", b"123456"), headers, 10)

    assert caught.value.code is Code.BODY_TOO_LARGE


async def test_a_client_that_asks_first_is_not_made_to_send() -> None:
    sent = Sent(b"123456789012")
    with pytest.raises(Failure):
        await body.read(sent, length(12) | {b"expect": b"100-continue"}, 10)

    assert sent.taken == 0


async def test_a_slow_body_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_SECONDS", 0.05)
    with pytest.raises(Failure) as caught:
        await body.read(Sent(*[b"x"] * 100, wait=0.02), length(100), 1000)

    assert caught.value.code is Code.REQUEST_TIMEOUT


async def test_a_fast_body_gets_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_SECONDS", 0.4)
    parts = [bytes(64 * 2**10)] * 5  # each of them buys a second

    assert len(await body.read(Sent(*parts, wait=0.1), CHUNKED, 2**20)) == 5 * 64 * 2**10


async def test_a_client_that_hangs_up_is_gone() -> None:
    with pytest.raises(body.Gone):
        await body.read(Sent(b"a", ends=False), CHUNKED, 10)


@pytest.mark.parametrize("value", ["-1", "1e3", "9" * 30, " 5"])
async def test_a_length_is_a_number(value: str) -> None:
    with pytest.raises(Failure) as caught:
        await body.read(Sent(), length(value), 10)

    assert caught.value.code is Code.BAD_FRAMING
