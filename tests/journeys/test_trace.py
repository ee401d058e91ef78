"""One trace from a caller through gateway, services, events and engine, in two processes, as a collector sees it.

Long work begins a trace of its own: what it says later is not in that of the request that asked for it.
"""

import asyncio
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from aimass.v1.gateway_events_pb2 import TenantChanged
from services.kit import contract
from tests.support import models
from tests.support.collector import Collector, values
from tests.support.collector import collector as collecting
from tests.support.house import until
from tests.support.server import Server, layout, serving

pytestmark = pytest.mark.skipif(bool(layout()), reason="it starts two processes of its own")
ADDED, PREDICTED = "a1" * 16, "b2" * 16
SERVER, CONSUMER = 2, 5
EVENT = f"process {contract.topic(TenantChanged.DESCRIPTOR)}"


def post(server: Server, path: str, trace: str, body: dict[str, Any]) -> None:
    """A request of somebody who is in a trace."""
    headers = {
        "authorization": f"Bearer {server.key}",
        "content-type": "application/json",
        "idempotency-key": trace,
        "traceparent": f"00-{trace}-{'c3' * 8}-01",
    }
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status in (200, 202)


def work(server: Server) -> None:
    """A tenant is added in one trace and a version asked in another."""
    client = server.client()
    graph = server.home.parent / "model.onnx"
    graph.write_bytes(models.logistic())
    uploaded = client.upload(graph, to="artifacts")
    client.models.create_model(model="late")
    files = [{"name": "model.onnx", "digest": uploaded.digest}]
    client.models.create_model_version(model="late", files=files)
    client.releases.promote_version(model="late", version=1).wait(progress=False)
    client.close()
    post(server, "/v1/tenants", ADDED, {"tenant": "acme"})
    row = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}
    end = time.monotonic() + 60
    while True:
        try:
            return post(server, "/v2/models/late/infer", PREDICTED, {"inputs": [row]})
        except urllib.error.HTTPError as error:
            if error.code not in (404, 503) or time.monotonic() > end:
                raise
            time.sleep(0.2)


def spans(there: Collector, trace: str) -> dict[str, tuple[Any, str]]:
    """The spans of a trace by name, each with the instance that told it."""
    return {
        span.name: (span, values(resource.resource)["service.instance.id"])
        for request in there.received["traces"]
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if span.trace_id.hex() == trace
    }


async def test_a_trace_goes_through_gateway_services_events_and_engine(tmp_path: Path) -> None:
    async with collecting("grpc") as there:
        settings: Any = {"OTEL_EXPORTER_OTLP_ENDPOINT": there.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        with serving(tmp_path / "home", alone=["inference"], **settings) as server:
            await asyncio.to_thread(work, server)
            heard = await until(lambda: EVENT in (found := spans(there, ADDED)) and found)
            asked = await until(lambda: "aimass.v1.Engines/InferMany" in (found := spans(there, PREDICTED)) and found)

    request, gateway = heard["POST /v1/tenants"]
    assert (request.kind, request.parent_span_id.hex()) == (SERVER, "c3" * 8)
    call, access = heard["aimass.v1.Access/CreateTenant"]
    assert (call.kind, call.parent_span_id, access) == (SERVER, request.span_id, gateway)
    event, _ = heard[EVENT]
    assert event.kind == CONSUMER
    assert asked["aimass.v1.Engines/InferMany"][1] != gateway
    records = [record for record in there.logs() if record.trace_id.hex() == PREDICTED]
    assert "prediction" in {values(record)["aimass.kind"] for record in records}
