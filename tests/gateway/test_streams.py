"""Streams as bytes: events, lines and downloads, however their source ends."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from aimass.v1.operations_pb2 import Operation
from services.gateway.api import streams
from services.kit.errors import Code, Failure, NotFound


class Source:
    """Gives items one after another; an exception among them is raised. It knows whether it was closed."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items, self.closed = list(items), False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._run()

    async def _run(self) -> AsyncIterator[Any]:
        try:
            for item in self._items:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed = True


async def text_of(source: Source, kind: str) -> str:
    response: Any = await streams.respond(aiter(source), kind, "/v1/x", "r-1", asyncio.Event())
    assert response.headers["cache-control"] == "no-store"
    assert response.media_type == kind
    return b"".join([part async for part in response.body_iterator]).decode()


def operations(*names: str) -> list[Operation]:
    return [Operation(operation=name) for name in names]


async def test_each_message_is_an_event_of_its_own() -> None:
    text = await text_of(Source(operations("a", "b")), streams.EVENTS)

    events = text.split("\n\n")
    assert events.pop() == ""
    assert [orjson.loads(event.removeprefix("data: "))["operation"] for event in events] == ["a", "b"]


async def test_each_message_is_a_line_of_its_own() -> None:
    text = await text_of(Source(operations("a", "b\nc", "d")), streams.LINES)

    assert [orjson.loads(line)["operation"] for line in text.splitlines()] == ["a", "b\nc", "d"]


@pytest.mark.parametrize("kind", [streams.EVENTS, streams.LINES])
async def test_nothing_to_tell_is_an_empty_stream(kind: str) -> None:
    assert await text_of(Source([]), kind) == ""


@pytest.mark.parametrize("kind", [streams.EVENTS, streams.LINES])
async def test_a_failure_before_the_first_message_is_the_answer(kind: str) -> None:
    source = Source([NotFound("there is nothing")])

    with pytest.raises(NotFound):
        await text_of(source, kind)
    assert source.closed


async def test_a_later_failure_is_the_last_event() -> None:
    source = Source([*operations("a"), Failure(Code.UNAVAILABLE, "the rest is away", retry_after=2)])
    text = await text_of(source, streams.EVENTS)

    last = text.rstrip("\n").split("\n\n")[-1].splitlines()
    assert last[0] == "event: error"
    problem = orjson.loads(last[1].removeprefix("data: "))
    assert (problem["code"], problem["instance"], problem["request_id"]) == ("unavailable", "/v1/x", "r-1")
    assert problem["retry_after_ms"] == 2000
    assert source.closed


async def test_a_later_failure_is_the_last_line() -> None:
    source = Source([*operations("a"), Failure(Code.UNAVAILABLE, "the rest is away")])
    lines = (await text_of(source, streams.LINES)).splitlines()

    assert len(lines) == 2
    assert orjson.loads(lines[1])["error"]["detail"] == "the rest is away"


async def test_a_bug_in_the_middle_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    text = await text_of(Source([*operations("a"), RuntimeError("a secret")]), streams.EVENTS)

    assert '"code":"internal"' in text
    assert "a secret" not in text
    assert "unhandled error in a stream" in caplog.text


async def test_silence_is_filled_with_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_FIRST", 0.01)
    monkeypatch.setattr(streams, "_ALIVE", 0.01)
    parts: list[bytes] = []
    response: Any = await streams.respond(_late(parts), streams.EVENTS, "/v1/x", "r-1", asyncio.Event())
    async for part in response.body_iterator:
        parts.append(part)

    assert parts[0] == b": alive\n\n"
    assert parts[-1].startswith(b"data: ")


async def _late(seen: list[bytes]) -> AsyncIterator[Operation]:
    while len(seen) < 2:  # until it was told twice that the stream lives
        await asyncio.sleep(0)
    yield Operation(operation="a")


async def test_lines_have_no_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_FIRST", 0)
    lines = (await text_of(Source(operations("a")), streams.LINES)).splitlines()

    assert len(lines) == 1


async def test_a_stream_that_is_not_read_to_its_end_is_closed() -> None:
    source = Source(operations("a", "b", "c"))
    response: Any = await streams.respond(aiter(source), streams.EVENTS, "/v1/x", "r-1", asyncio.Event())
    content = response.body_iterator
    await anext(content)
    assert not source.closed
    await content.aclose()

    assert source.closed


async def downloaded(source: Source) -> tuple[str, bytes]:
    response: Any = await streams.download(aiter(source))
    return response.headers["content-type"], b"".join([part async for part in response.body_iterator])


@pytest.mark.parametrize(
    ("chunks", "kind", "content"),
    [
        ([], "application/octet-stream", b""),
        ([HttpBody(data=b"a"), HttpBody(data=b"b")], "application/octet-stream", b"ab"),
        ([HttpBody(content_type="text/csv", data=b"a"), HttpBody(content_type="x/y")], "text/csv", b"a"),
        ([HttpBody(content_type="image/png")], "image/png", b""),
    ],
)
async def test_a_download_is_what_was_uploaded(chunks: list[HttpBody], kind: str, content: bytes) -> None:
    assert await downloaded(Source(chunks)) == (kind, content)


async def test_a_download_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(NotFound):
        await downloaded(Source([NotFound("there is no such file")]))


async def test_a_download_that_breaks_raises_so_that_its_connection_does() -> None:
    source = Source([HttpBody(data=b"a"), Failure(Code.UNAVAILABLE, "the rest is away")])

    with pytest.raises(Failure, match="the rest is away"):
        await downloaded(source)
    assert source.closed


async def _gone() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def _nowhere(message: Any) -> None:
    """What is sent to a caller who has gone."""


@pytest.mark.parametrize("kind", [streams.EVENTS, streams.LINES])
async def test_a_caller_who_has_gone_before_the_first_message_leaves_nothing_open(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_FIRST", 0.01)
    source, begun = _Silent(), len(asyncio.all_tasks())
    response = await streams.respond(aiter(source), kind, "/v1/x", "r-1", asyncio.Event())
    await response({"type": "http", "asgi": {"spec_version": "2.3"}}, _gone, _nowhere)

    assert source.closed
    assert len(asyncio.all_tasks()) == begun


async def test_a_caller_who_has_gone_before_a_download_leaves_nothing_open() -> None:
    source = Source([HttpBody(data=b"a"), HttpBody(data=b"b")])
    response = await streams.download(aiter(source))
    await response({"type": "http", "asgi": {"spec_version": "2.3"}}, _gone, _nowhere)

    assert source.closed


class _Silent(Source):
    """Says nothing for ever."""

    def __init__(self) -> None:
        super().__init__([])

    async def _run(self) -> AsyncIterator[Any]:
        try:
            await asyncio.Event().wait()
            yield
        finally:
            self.closed = True


@pytest.mark.parametrize(
    ("kind", "last"),
    [
        (streams.EVENTS, "retry: 500\n\n"),
        (streams.LINES, "the gateway is stopping; the stream goes on elsewhere"),
    ],
)
async def test_a_stream_that_waits_ends_with_a_hint_when_the_gateway_leaves(kind: str, last: str) -> None:
    leaving = asyncio.Event()

    async def waiting() -> AsyncIterator[Any]:
        yield operations("a")[0]
        leaving.set()
        await asyncio.sleep(0.2)  # not silent for long enough
        yield operations("b")[0]
        await asyncio.Event().wait()

    response: Any = await streams.respond(waiting(), kind, "/v1/x", "r-1", leaving)
    async with asyncio.timeout(5):
        text = b"".join([part async for part in response.body_iterator]).decode()

    assert '"b"' in text
    assert last in text[-400:]
