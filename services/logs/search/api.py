"""The RPCs of Logs."""

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.timestamp_pb2 import Timestamp

from aimass.v1 import logs_pb2 as pb
from services.kit.rpc import Call
from services.logs.search.buckets import Bucket
from services.logs.search.index import Window
from services.logs.search.service import Search
from services.logs.wire import to_wire


class LogsApi:
    """Search over the records."""

    def __init__(self, search: Search) -> None:
        self._search = search

    async def SearchLogs(self, request: pb.SearchLogsRequest, call: Call) -> pb.SearchLogsResponse:
        window = _window(request)
        page = await self._search.search(call.scope, request.query, window, request.page_size, request.page_token)
        return pb.SearchLogsResponse(records=map(to_wire, page.items), next_page_token=page.next_token)

    async def CountLogs(self, request: pb.CountLogsRequest, call: Call) -> pb.CountLogsResponse:
        step, split = request.step_seconds, request.split_by
        buckets, total = await self._search.count(call.scope, request.query, _window(request), step, split)
        return pb.CountLogsResponse(buckets=map(_bucket, buckets), total=total)

    async def TailLogs(self, request: pb.TailLogsRequest, call: Call) -> AsyncIterator[pb.LogRecord]:
        records = self._search.tail(call.scope, request.query)
        try:
            # Ends the stream regularly, just before the deadline would end it with a failure.
            async with asyncio.timeout(max(call.remaining() - 0.1, 0.0)):
                async for record in records:
                    yield to_wire(record)
        except TimeoutError:
            return
        finally:
            await records.aclose()  # type: ignore[attr-defined]

    async def GetTrace(self, request: pb.GetTraceRequest, call: Call) -> pb.Trace:
        spans = await self._search.trace(call.scope, request.request_id)
        return pb.Trace(trace_id=spans[0].trace_id, spans=map(to_wire, spans))


def _window(request: pb.SearchLogsRequest | pb.CountLogsRequest) -> Window:
    since = request.since.ToNanoseconds() if request.HasField("since") else None
    until = request.until.ToNanoseconds() if request.HasField("until") else None
    return Window(since, until)


def _bucket(bucket: Bucket) -> pb.CountBucket:
    start = Timestamp(seconds=bucket.start)
    return pb.CountBucket(
        start=start, count=bucket.count, value=bucket.value, p50_ms=bucket.p50_ms, p99_ms=bucket.p99_ms
    )
