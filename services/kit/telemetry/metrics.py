"""Metrics of this process. Label values come from code, so their number is bounded.

`gauge` registers a value that is read at each scrape, such as the depth of a queue.
"""

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from services.kit.telemetry import conventions
from services.kit.telemetry.gauges import Gauges
from services.kit.telemetry.records import Record
from services.kit.telemetry.spans import Span

REGISTRY = CollectorRegistry()
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_MOST = 500  # distinct names of spans; further ones count as `other`
_names: set[str] = set()

_gauges = Gauges()
gauge = _gauges.gauge

ProcessCollector(registry=REGISTRY)
REGISTRY.register(_gauges)
requests = Counter("aimass_requests", "Pieces of work that ended.", ["service", "name", "status"], registry=REGISTRY)
seconds = Histogram(
    "aimass_request_seconds", "How long they took.", ["service", "name"], buckets=_BUCKETS, registry=REGISTRY
)
http_seconds = Histogram(
    "http_server_request_duration_seconds",
    "How long requests over HTTP took.",
    ["http_request_method", "http_route", "http_response_status_code"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
rpc_seconds = Histogram(
    "rpc_server_duration_seconds",
    "How long calls of services took.",
    ["rpc_system", "rpc_service", "rpc_method", "rpc_grpc_status_code"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
dropped = Counter("aimass_telemetry_dropped", "Records and spans that did not fit.", ["kind"], registry=REGISTRY)
aside = Counter("aimass_events_aside", "Events that were not handled.", ["topic", "reason"], registry=REGISTRY)
waiting = Gauge("aimass_telemetry_waiting", "Records and spans that wait for the bus.", ["kind"], registry=REGISTRY)


def observe(spans: Iterable[Span]) -> None:
    """Counts and times spans that have ended, in the telemetry thread."""
    for span in spans:
        name = span.name
        if name not in _names:
            if len(_names) >= _MOST:
                name = "other"
            _names.add(name)
        status = str(span.attributes.get("status", "ok"))[:40]
        took = (span.end_ns - span.start_ns) / 1e9
        requests.labels(span.service, name, status).inc()
        seconds.labels(span.service, name).observe(took)
        if name != "other":
            _observe_server(conventions.attributes(span) | span.attributes, took)


def _observe_server(attributes: Mapping[str, Any], took: float) -> None:
    """The same under OpenTelemetry's names, for its dashboards."""
    if "http.route" in attributes:
        code = str(attributes["http.response.status_code"])
        http_seconds.labels(attributes["http.request.method"], attributes["http.route"], code).observe(took)
    elif "rpc.system" in attributes:
        code = str(attributes["rpc.grpc.status_code"])
        rpc_seconds.labels("grpc", attributes["rpc.service"], attributes["rpc.method"], code).observe(took)


def observe_predictions(records: Iterable[Record]) -> None:
    """Counts and times the predictions among records, as `observe` does spans."""
    took = [record.attributes.get("duration_ms", 0.0) / 1000 for record in records if record.kind == "prediction"]
    if took:
        requests.labels("gateway", "prediction", "ok").inc(len(took))
        observe_one = seconds.labels("gateway", "prediction").observe
        for one in took:
            observe_one(one)


def exposition() -> bytes:
    """All metrics in the Prometheus text format."""
    return generate_latest(REGISTRY)


@cache
def version() -> str:
    """The version of the servers; 0 when they run from a folder without being installed."""
    try:
        return metadata.version("aimass-server")
    except metadata.PackageNotFoundError:
        return "0"


def _build() -> Iterator[tuple[Sequence[str], float]]:
    yield (version(), platform.python_version()), 1.0


gauge("aimass_build_info", "The version that runs; always 1.", ["version", "python"], _build)
