"""A collector over HTTP with protobuf bodies."""

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
        """`trust` is a PEM file of authorities. Raises ConfigError when it cannot be read."""
        self._url, self._seconds, self._gzip = url, seconds, gzip
        self._headers = {name.lower(): value for name, value in headers.items()}
        self._headers["content-type"] = "application/x-protobuf"
        if gzip:
            self._headers["content-encoding"] = "gzip"
        # Its address is the operator's word, not a tenant's: it may be in his own network, and without TLS.
        self._egress = Egress(allow=urlsplit(url).hostname or "", trust=_believed(trust), most=2)

    async def send(self, body: bytes) -> int:
        if self._gzip:
            body = await asyncio.to_thread(gzipped.compress, body, 6)
        try:
            answer = await self._egress.request("POST", self._url, self._headers, body, self._seconds)
        except Failure as failure:
            raise Away(str(failure)) from None
        if answer.status in _LATER:
            asked = answer.headers.get("retry-after", "")
            raise Away(f"it says {answer.status}", float(asked) if asked.isdecimal() else 0.0)
        if not 200 <= answer.status < 300:
            raise Refused(f"it says {answer.status}")
        return unwanted(answer.body)

    async def close(self) -> None:
        await self._egress.close()


def unwanted(body: bytes) -> int:
    """How many parts of a batch a collector says that it did not take; the answers of all signals say it alike."""
    try:
        return int(ExportLogsServiceResponse.FromString(body).partial_success.rejected_log_records)
    except DecodeError:
        return 0


def _believed(trust: Path | None) -> ssl.SSLContext | None:
    try:
        return ssl.create_default_context(cafile=trust) if trust else None
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"OTEL_EXPORTER_OTLP_CERTIFICATE: {trust} cannot be used: {error.strerror}") from None
