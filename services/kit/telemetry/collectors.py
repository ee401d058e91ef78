"""Builds a process's collector from its settings."""

from collections.abc import Mapping

from services.kit.telemetry.collector import Collector, Transport
from services.kit.telemetry.metrics import version
from services.kit.telemetry.otlp import resource
from services.kit.telemetry.settings import SIGNALS, OpenTelemetry, read


def collector(env: Mapping[str, str], process: str, instance: str) -> Collector | None:
    """The collector of a process; None when no signal is exported. Raises ConfigError."""
    settings = read(env)
    transports = {
        signal: _transport(settings, signal, endpoint) for signal in SIGNALS if (endpoint := settings.endpoint(signal))
    }
    return Collector(transports, resource(about(settings, process, instance))) if transports else None


def about(settings: OpenTelemetry, process: str, instance: str) -> dict[str, str]:
    """The resource attributes of a process; the operator's settings override ours. Raises ConfigError."""
    found = {
        "service.name": "aimass" if "-" in process else f"aimass-{process}",
        "service.instance.id": instance,
        "service.version": version(),
        "telemetry.sdk.name": "aimass",
        "telemetry.sdk.language": "python",
    }
    named = {"service.name": settings.service_name} if settings.service_name else {}
    return found | settings.attributes | named


def _transport(settings: OpenTelemetry, signal: str, endpoint: str) -> Transport:
    where = (signal, endpoint, settings.headers, settings.exporter_otlp_timeout / 1000)
    how = (settings.exporter_otlp_compression == "gzip", settings.exporter_otlp_certificate)
    if settings.exporter_otlp_protocol == "grpc":
        from services.kit.telemetry.collector_grpc import GrpcTransport

        return GrpcTransport(*where, *how)
    from services.kit.telemetry.collector_http import HttpTransport

    return HttpTransport(*where, *how)
