"""Settings by the standard variables of OpenTelemetry: where telemetry is exported to, beside the log centre."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr

from services.kit.config import ConfigError, Settings, load

SIGNALS = ("traces", "metrics", "logs")


class OpenTelemetry(Settings):
    """The variables that we use; others are ignored, as other libraries may use them."""

    prefix = "OTEL_"

    # Whether nothing is sent to a collector, whatever else is set.
    sdk_disabled: bool = False
    # The service name at the collector. Empty: aimass-<service> for a process with one service, otherwise aimass.
    service_name: str = ""
    # Further attributes of the process: key=value,key=value, URL-encoded.
    resource_attributes: str = ""
    # The collector, http://host:port or https://host:port; for HTTP the path of each signal is appended. Empty: none.
    exporter_otlp_endpoint: str = ""
    # The collector of one signal; for HTTP the whole URL.
    exporter_otlp_traces_endpoint: str = ""
    exporter_otlp_metrics_endpoint: str = ""
    exporter_otlp_logs_endpoint: str = ""
    # The protocol.
    exporter_otlp_protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    # Headers, such as a key: name=value,name=value, URL-encoded.
    exporter_otlp_headers: SecretStr = SecretStr("")
    # Milliseconds that the collector may take for a batch.
    exporter_otlp_timeout: int = Field(default=10_000, gt=0)
    # Whether batches are compressed.
    exporter_otlp_compression: Literal["none", "gzip"] = "none"
    # A PEM file of the authorities of the collector's certificate. Empty: those of the system.
    exporter_otlp_certificate: Path | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request. Raises ConfigError, without the value."""
        return _pairs("OTEL_EXPORTER_OTLP_HEADERS", self.exporter_otlp_headers.get_secret_value())

    @property
    def attributes(self) -> dict[str, str]:
        """Resource attributes. Raises ConfigError."""
        return _pairs("OTEL_RESOURCE_ATTRIBUTES", self.resource_attributes)

    def endpoint(self, signal: str) -> str:
        """The URL for a signal; empty when it is not exported. Raises ConfigError."""
        own = str(getattr(self, f"exporter_otlp_{signal}_endpoint"))
        if self.sdk_disabled or not (found := own or self.exporter_otlp_endpoint):
            return ""
        _check(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT" if own else "OTEL_EXPORTER_OTLP_ENDPOINT", found)
        if own or self.exporter_otlp_protocol == "grpc":
            return found
        return f"{found.rstrip('/')}/v1/{signal}"


def read(env: Mapping[str, str]) -> OpenTelemetry:
    """Loads the settings; an empty variable counts as not set. Raises ConfigError."""
    return load(OpenTelemetry, {name: value for name, value in env.items() if value})


def _check(variable: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host = 0, ""
    if not host or port == 0 or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise ConfigError(f"{variable}: must be http://host:port or https://host:port")


def _pairs(variable: str, text: str) -> dict[str, str]:
    split = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(key.strip() and sign for key, sign, _ in split):
        raise ConfigError(f"{variable}: must be key=value,key=value")
    return {key.strip(): unquote(value.strip()) for key, _, value in split}
