"""OTLP over HTTP, with protobuf bodies."""

import asyncio
import gzip as gzipped
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from services.kit.config import ConfigError
from services.kit.egress import Egress
from services.kit.errors import Failure
from services.kit.telemetry.collector import Away, Refused

_LATER = (408, 429, 502, 503, 504)


class HttpTransport:
    """Posts one signal's batches."""

    def __init__(
        self, signal: str, url: str, headers: Mapping[str, str], seconds: float, gzip: bool, trust: Path | None
    ) -> None:
        """`trust` is a PEM file of certificate authorities. Raises ConfigError when it cannot be read."""
        self._url, self._seconds, self._gzip = url, seconds, gzip
        self._headers = {name.lower(): value for name, value in headers.items()}
        self._headers["content-type"] = "application/x-protobuf"
        if gzip:
            self._headers["content-encoding"] = "gzip"
        # The operator sets the address, not a tenant: it may be private, and without TLS.
        self._egress = Egress(allow=urlsplit(url).hostname or "", trust=_trusted(trust), most=2)

    async def send(self, body: bytes) -> int:
        if self._gzip:
            body = await asyncio.to_thread(gzipped.compress, body, 6)
        try:
            answer = await self._egress.request("POST", self._url, self._headers, body, self._seconds)
        except Failure as failure:
            raise Away(str(failure)) from None
        if answer.status in _LATER:
            asked = answer.headers.get("retry-after", "")
            raise Away(f"it answered {answer.status}", float(asked) if asked.isdecimal() else 0.0)
        if not 200 <= answer.status < 300:
            raise Refused(f"it answered {answer.status}")
        return unwanted(answer.body)

    async def close(self) -> None:
        await self._egress.close()


def unwanted(body: bytes) -> int:
    """How many items of a batch the collector rejected; the responses of all signals have the same field."""
    try:
        return int(ExportLogsServiceResponse.FromString(body).partial_success.rejected_log_records)
    except DecodeError:
        return 0


def _trusted(trust: Path | None) -> ssl.SSLContext | None:
    try:
        return ssl.create_default_context(cafile=trust) if trust else None
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"OTEL_EXPORTER_OTLP_CERTIFICATE: {trust} cannot be used: {error.strerror}") from None
