"""Spans as dashboards of OpenTelemetry read them."""

import contextlib
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from services.kit import telemetry
from services.kit.errors import Failure, NotFound, Unavailable
from services.kit.telemetry import Kind, metrics
from services.kit.telemetry.otlp import request, traces
from tests.support.collector import values


def encoded(span: telemetry.Span) -> Any:
    found = ExportTraceServiceRequest.FromString(request(traces([span])))
    return found.resource_spans[0].scope_spans[0].spans[0]


def ended(name: str, kind: Kind, error: Exception | None = None) -> telemetry.Span:
    span = telemetry.span(name, None, kind)
    with contextlib.suppress(Failure), span:
        if error:
            raise error
    return span


def test_a_call_of_a_service_has_the_names_of_rpc() -> None:
    attributes = values(encoded(ended("aimass.v1.Models/Get", Kind.SERVER)))

    assert (
        attributes.items()
        >= {
            "rpc.system": "grpc",
            "rpc.service": "aimass.v1.Models",
            "rpc.method": "Get",
            "rpc.grpc.status_code": 0,
        }.items()
    )


def test_a_request_has_the_names_of_http_and_no_id_in_its_path() -> None:
    attributes = values(encoded(ended("POST /v1/models/{model}:promote", Kind.SERVER)))

    assert attributes["http.request.method"] == "POST"
    assert attributes["http.route"] == attributes["url.path"] == "/v1/models/{model}:promote"
    assert attributes["http.response.status_code"] == 200


@pytest.mark.parametrize(
    ("error", "http", "grpc", "failed"), [(NotFound("x"), 404, 5, False), (Unavailable("x"), 503, 14, True)]
)
def test_a_failure_is_said_with_its_number_and_only_our_own_is_an_error(
    error: Exception, http: int, grpc: int, failed: bool
) -> None:
    request, call = (encoded(ended(name, Kind.SERVER, error)) for name in ("GET /v1/models", "aimass.v1.Models/List"))

    assert values(request)["http.response.status_code"] == http
    assert values(call)["rpc.grpc.status_code"] == grpc
    for span in (request, call):
        assert (span.status.code == Status.STATUS_CODE_ERROR) is failed
        assert ("error.type" in values(span)) is failed


@pytest.mark.parametrize("kind", list(Kind))
def test_a_span_says_on_which_side_it_is(kind: Kind) -> None:
    assert encoded(ended("work", kind)).kind == kind


def test_whatever_a_caller_is_told_is_his_error() -> None:
    span = encoded(ended("aimass.v1.Models/Get", Kind.CLIENT, NotFound("x")))

    assert span.status.code == Status.STATUS_CODE_ERROR
    assert values(span)["error.type"] == "not_found"


def test_durations_are_counted_under_names_that_dashboards_know() -> None:
    metrics.observe([ended("PUT /v1/conventions", Kind.SERVER), ended("aimass.v1.Conventions/Test", Kind.SERVER)])
    labels = {
        "http_request_method": "PUT",
        "http_route": "/v1/conventions",
        "http_response_status_code": "200",
    }

    assert metrics.REGISTRY.get_sample_value("http_server_request_duration_seconds_count", labels) == 1
    labels = {
        "rpc_system": "grpc",
        "rpc_service": "aimass.v1.Conventions",
        "rpc_method": "Test",
        "rpc_grpc_status_code": "0",
    }
    assert metrics.REGISTRY.get_sample_value("rpc_server_duration_seconds_count", labels) == 1
