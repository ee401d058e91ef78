"""Encodes metrics in OTLP: plainly for the log centre, and for a collector by OpenTelemetry's conventions."""

import time
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, ScopeMetrics
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as OtlpMetric
from prometheus_client import Metric

from services.kit.redaction import redact
from services.kit.telemetry.wire import framed

_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_BEGUN = time.time_ns()
# OpenTelemetry's names and units, by the names in the Prometheus format.
_NAMES = {
    "http_server_request_duration_seconds": ("http.server.request.duration", "s"),
    "rpc_server_duration_seconds": ("rpc.server.duration", "s"),
    "rpc_client_duration_seconds": ("rpc.client.duration", "s"),
    "messaging_process_duration_seconds": ("messaging.process.duration", "s"),
    "process_cpu_seconds": ("process.cpu.time", "s"),
    "process_resident_memory_bytes": ("process.memory.usage", "By"),
    "process_virtual_memory_bytes": ("process.memory.virtual", "By"),
    "process_open_fds": ("process.unix.file_descriptor.count", "{file_descriptor}"),
}
_LABELS = {
    "http_request_method": "http.request.method",
    "http_route": "http.route",
    "http_response_status_code": "http.response.status_code",
    "rpc_system": "rpc.system",
    "rpc_service": "rpc.service",
    "rpc_method": "rpc.method",
    "rpc_grpc_status_code": "rpc.grpc.status_code",
    "messaging_destination_name": "messaging.destination.name",
    "error_type": "error.type",
}
_NUMBERS = {"http_response_status_code", "rpc_grpc_status_code"}


def encode_metrics(metrics: Iterable[Metric], process: str) -> bytes:
    """Metrics as one ExportMetricsServiceRequest, for the log centre: of histograms only sum and count."""
    request, now = ExportMetricsServiceRequest(), time.time_ns()
    resource = request.resource_metrics.add()
    resource.resource.attributes.append(_pair("service.name", process))
    scope = resource.scope_metrics.add()
    for metric in metrics:
        for sample in metric.samples:
            if sample.name.endswith(("_bucket", "_created")):
                continue
            made = scope.metrics.add(name=sample.name)
            if metric.type == "gauge":
                point = made.gauge.data_points.add()
            else:
                made.sum.is_monotonic = True
                made.sum.aggregation_temporality = _CUMULATIVE
                point = made.sum.data_points.add()
            point.time_unix_nano, point.as_double = now, sample.value
            point.attributes.extend(_pair(key, value) for key, value in sample.labels.items())
    return request.SerializeToString()


def collector_metrics(metrics: Iterable[Metric]) -> bytes:
    """The content of a request for a collector, without its resource: with the buckets of histograms."""
    scope, now = ScopeMetrics(), time.time_ns()
    scope.scope.name = "aimass"
    for metric in metrics:
        name, unit = _NAMES.get(metric.name, (metric.name.replace("aimass_", "aimass.", 1), metric.unit))
        made = OtlpMetric(name=name, unit=unit, description=metric.documentation)
        if metric.type == "histogram":
            made.histogram.aggregation_temporality = _CUMULATIVE
            made.histogram.data_points.extend(_histograms(metric, now))
        elif metric.type == "gauge":
            made.gauge.data_points.extend(_points(made.gauge, metric, now))
        else:
            made.sum.is_monotonic, made.sum.aggregation_temporality = True, _CUMULATIVE
            made.sum.data_points.extend(_points(made.sum, metric, now))
        scope.metrics.append(made)
    return framed(0x12, scope.SerializeToString())


def _points(kind: Any, metric: Metric, now: int) -> Iterator[Any]:
    for sample in metric.samples:
        if not sample.name.endswith("_created"):
            point = type(kind)().data_points.add(as_double=sample.value, time_unix_nano=now)
            point.start_time_unix_nano = 0 if metric.type == "gauge" else _BEGUN
            point.attributes.extend(_pairs(sample.labels))
            yield point


def _histograms(metric: Metric, now: int) -> Iterator[Any]:
    def whose(sample: Any) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((key, value) for key, value in sample.labels.items() if key != "le"))

    for labels, samples in groupby(sorted(metric.samples, key=whose), key=whose):
        point = OtlpMetric().histogram.data_points.add(start_time_unix_nano=_BEGUN, time_unix_nano=now)
        point.attributes.extend(_pairs(dict(labels)))
        below: list[tuple[float, float]] = []
        for sample in samples:
            if sample.name.endswith("_bucket"):
                below.append((float(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_count"):
                point.count = int(sample.value)
            elif sample.name.endswith("_sum"):
                point.sum = sample.value
        below.sort()
        point.explicit_bounds.extend(bound for bound, _ in below[:-1])
        point.bucket_counts.extend(int(after - before) for before, after in pairwise([0.0, *(n for _, n in below)]))
        yield point


def _pairs(labels: dict[str, str]) -> Iterator[KeyValue]:
    for key, value in labels.items():
        if key in _NUMBERS and value.isdecimal():
            yield KeyValue(key=_LABELS[key], value=AnyValue(int_value=int(value)))
        else:
            yield _pair(_LABELS.get(key, key), value)


def _pair(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=redact(value)))
