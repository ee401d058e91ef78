"""A collector of OpenTelemetry on the loopback, over gRPC and HTTP: keeps what it can decode, refuses the rest."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS: dict[str, Any] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
_SERVICES = {
    f"/opentelemetry.proto.collector.{name}.v1.{service}/Export": signal
    for signal, name, service in (
        ("traces", "trace", "TraceService"),
        ("metrics", "metrics", "MetricsService"),
        ("logs", "logs", "LogsService"),
    )
}


class Collector(grpc.GenericRpcHandler):
    """What came, by signal, with the headers of each batch."""

    def __init__(self) -> None:
        self.url = ""
        self.received: dict[str, list[Any]] = {signal: [] for signal in KINDS}
        self.headers: list[dict[str, str]] = []
        self.asked = 0
        # Answers of the next batches: a status of HTTP or gRPC; then it takes them.
        self.answers: list[Any] = []
        # What it answers to a batch that it takes.
        self.reply = b""

    def take(self, signal: str, body: bytes, headers: dict[str, str]) -> Any:
        """Takes a batch; returns the status that it was told to answer instead, if any."""
        self.asked += 1
        if self.answers:
            return self.answers.pop(0)
        self.received[signal].append(KINDS[signal].FromString(body))
        self.headers.append(headers)
        return None

    def spans(self) -> list[Any]:
        return [
            s for r in self.received["traces"] for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans
        ]

    def logs(self) -> list[Any]:
        return [
            record
            for request in self.received["logs"]
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def metrics(self) -> dict[str, Any]:
        """The figures of the last batch by name."""
        last = self.received["metrics"][-1]
        return {m.name: m for rm in last.resource_metrics for sm in rm.scope_metrics for m in sm.metrics}

    def resource(self, signal: str) -> dict[str, str]:
        """What the process that sent the first batch of a signal says of itself."""
        (about,) = getattr(self.received[signal][0], f"resource_{'spans' if signal == 'traces' else signal}")
        return values(about.resource)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        signal = _SERVICES.get(details.method)
        if signal is None:
            return None

        async def export(body: bytes, context: Any) -> bytes:
            status = self.take(signal, body, dict(context.invocation_metadata()))
            if status:
                await context.abort(status, "told to")
            return self.reply

        return grpc.unary_unary_rpc_method_handler(export)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of HTTP."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *fields = head.decode().strip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
                body = await reader.readexactly(int(headers["content-length"]))
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert headers["content-type"] == "application/x-protobuf"
                status = self.take(line.split(" ")[1].rpartition("/")[2], body, headers) or 200
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(self.reply)}\r\n\r\n".encode() + self.reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def values(thing: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in thing.attributes}


@asynccontextmanager
async def collector(protocol: str, port: int = 0, credentials: Any = None) -> AsyncIterator[Collector]:
    """A collector that speaks `grpc` or `http/protobuf`; port 0 is a free one."""
    found = Collector()
    if protocol == "grpc":
        server = aio.server()
        server.add_generic_rpc_handlers((found,))
        address = f"127.0.0.1:{port}"
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        await server.start()
        found.url = f"{'https' if credentials else 'http'}://127.0.0.1:{port}"
        try:
            yield found
        finally:
            await server.stop(0)
        return
    listening = await asyncio.start_server(found.serve, "127.0.0.1", port, ssl=credentials)
    found.url = f"{'https' if credentials else 'http'}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        listening.close()
