"""Callers that wait: connections that say nothing for a while after they were accepted, and gRPC streams."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from grpc import StatusCode, aio

from aimass.v1.logs_pb2 import TailLogsRequest
from aimass.v1.logs_pb2_grpc import LogsStub
from services.kit.status import TRAILER

_SILENT = 1.2  # seconds between a connection and its request
_STREAM = 8.0  # seconds after which a stream has waited long enough
_PATIENCE = 30.0  # seconds for one answer
_REST = 0.1
Answer = tuple[int, str]  # the status, 0 for a failure; what was said
Note = Callable[[str, Answer, float], None]


class Waiting:
    """So many silent connections and streams at a time, each begun anew when it has ended."""

    def __init__(self, key: str, note: Note) -> None:
        """`note` takes the kind of each that has ended, what came of it, and when it began (monotonic seconds)."""
        self._key, self._note = key, note

    async def run(self, stop: asyncio.Event, doors: list[list[Any]], grpc: list[str], count: int) -> None:
        """Until it is stopped; then what is under way ends."""
        works = [self._repeat(stop, "silent", partial(self._silent, *at)) for at in doors for _ in range(count)]
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [aio.insecure_channel(address, options=options) for address in grpc for _ in range(count)]
        works += [self._repeat(stop, "stream", partial(self._stream, one)) for one in channels]
        try:
            await asyncio.gather(*works)
        finally:
            await asyncio.gather(*(channel.close() for channel in channels))

    async def _repeat(self, stop: asyncio.Event, kind: str, work: Callable[[], Coroutine[Any, Any, Answer]]) -> None:
        while not stop.is_set():
            began = time.monotonic()
            try:
                answer = await work()
            except (OSError, EOFError, TimeoutError) as error:
                answer = 0, repr(error)
            self._note(kind, answer, began)
            await asyncio.sleep(_REST)

    async def _silent(self, host: str, port: int) -> Answer:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            await asyncio.sleep(_SILENT)
            lines = ["GET /v1/whoami HTTP/1.1", "host: localhost", f"authorization: Bearer {self._key}"]
            writer.write("\r\n".join([*lines, "connection: close", "", ""]).encode())
            async with asyncio.timeout(_PATIENCE):
                answer = await reader.read()
            if not answer:
                raise EOFError("the connection was closed without an answer")
            return int(answer[9:12]), ""
        finally:
            writer.close()

    async def _stream(self, channel: aio.Channel) -> Answer:
        """It may end when it is told to come again, and in no other way."""
        stub: Any = LogsStub(channel)
        call = stub.TailLogs(TailLogsRequest(query="zzznothing"), metadata=(("authorization", f"Bearer {self._key}"),))
        try:
            async with asyncio.timeout(_STREAM):
                async for _ in call:
                    pass
        except TimeoutError:
            return 200, "it was waited for long enough"
        except aio.AioRpcError as error:
            told = any(key == TRAILER for key, _ in error.trailing_metadata() or ())
            well = told and error.code() is StatusCode.UNAVAILABLE
            return (200, "told to come again") if well else (0, f"{error.code().name}: {error.details()}")
        return 0, "it ended without a word"
