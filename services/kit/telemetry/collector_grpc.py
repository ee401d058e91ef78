"""OTLP over gRPC: the bytes of a batch are the message."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from grpc import StatusCode, aio

from services.kit.config import ConfigError
from services.kit.telemetry.collector import Away, Refused
from services.kit.telemetry.collector_http import unwanted

_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_LATER = {
    StatusCode.CANCELLED,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.ABORTED,
    StatusCode.OUT_OF_RANGE,
    StatusCode.UNAVAILABLE,
    StatusCode.DATA_LOSS,
    StatusCode.RESOURCE_EXHAUSTED,
}


class GrpcTransport:
    """Calls one signal's service."""

    def __init__(
        self, signal: str, url: str, headers: Mapping[str, str], seconds: float, gzip: bool, trust: Path | None
    ) -> None:
        """`trust` is a PEM file of certificate authorities. Raises ConfigError when it cannot be read."""
        self._method, self._url, self._seconds = _METHODS[signal], urlsplit(url), seconds
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        self._compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        try:
            self._trust = trust.read_bytes() if trust else None
        except OSError as error:
            raise ConfigError(f"OTEL_EXPORTER_OTLP_CERTIFICATE: {trust} cannot be read: {error.strerror}") from None
        self._channel: aio.Channel | None = None

    async def send(self, body: bytes) -> int:
        self._channel = self._channel or self._open()
        call: Any = self._channel.unary_unary(self._method)
        try:
            return unwanted(await call(body, timeout=self._seconds, metadata=self._metadata))
        except aio.AioRpcError as error:
            why = f"{error.code().name.lower()}: {(error.details() or '')[:200]}"
            raise (Away(why) if error.code() in _LATER else Refused(why)) from None

    def _open(self) -> aio.Channel:
        target = self._url.netloc if self._url.port else f"{self._url.netloc}:4317"
        if self._url.scheme == "http":
            return aio.insecure_channel(target, compression=self._compression)
        credentials = grpc.ssl_channel_credentials(self._trust)
        return aio.secure_channel(target, credentials, compression=self._compression)

    async def close(self) -> None:
        if self._channel:
            await self._channel.close()
