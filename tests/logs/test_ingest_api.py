from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from aimass.v1 import audit_events_pb2, options_pb2, registry_events_pb2, trainer_events_pb2
from aimass.v1.access_pb2 import CreatedApiKey
from aimass.v1.jobs_pb2 import JOB_STATE_FAILED
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.event import TELEMETRY
from services.kit.telemetry import Record as Told
from services.kit.telemetry.otlp import logs, logs_with_tables, request, resource, traces
from services.kit.telemetry.spans import Span
from services.logs.domain import Record
from services.logs.ingest.api import decode
from services.logs.ingest.api.cloudevents import _strip
from services.logs.tables import records_of
from tests.kit.test_telemetry_columns import prediction

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ACME = Scope("acme", "flights")


def event_of(message: Message, kind: str = "models", name: str = "late") -> Event:
    return Event.of(message, ACME, kind, name, "test", NOON)


def telemetry(body: bytes, signal: str, event_id: str = "batch-1") -> Event:
    kind = f"opentelemetry.proto.collector.x.v1.Export{signal}ServiceRequest"
    return Event(TELEMETRY, signal, body, {"ce_id": event_id, "ce_type": kind})


def only(event: Event) -> Record:
    (batch,), poison = decode([event])
    assert poison == []
    (record,) = records_of(batch.records)
    return record


def logged(**attributes: Any) -> Record:
    return only(telemetry(request(logs([Told("log", "x", "text", ACME, attributes)])), "Logs"))


def test_an_event_is_found_by_what_it_says() -> None:
    changed = registry_events_pb2.ReleaseChanged(generation=3)
    changed.release.model = "late"
    changed.release.desired.version = 7
    event = event_of(changed)
    event.headers["traceparent"] = f"00-{'a' * 32}-{'b' * 16}-01"
    record = only(event)

    assert (record.record, record.tenant, record.project) == (event.id, "acme", "flights")
    assert (record.kind, record.name, record.service) == ("event", "ReleaseChanged", "registry")
    assert (record.model, record.version, record.trace_id) == ("late", 7, "a" * 32)
    assert record.attributes["type"] == "aimass.v1.ReleaseChanged"
    assert record.attributes["release.desired.version"] == 7
    assert "models/late" in record.text
    assert record.time_ns == int(NOON.timestamp()) * 10**9


def test_a_failure_among_events_is_a_warning() -> None:
    changed = trainer_events_pb2.JobChanged()
    changed.job.state = JOB_STATE_FAILED
    record = only(event_of(changed, "jobs"))

    assert (record.severity, record.status) == ("WARN", "JOB_STATE_FAILED")


def test_an_audited_call_keeps_its_request_and_outcome() -> None:
    record = only(event_of(audit_events_pb2.CallAudited(request_id="r-1", outcome="not_found")))

    assert (record.service, record.request_id, record.status) == ("gateway", "r-1", "not_found")


def test_a_field_that_is_declared_secret_is_cleared() -> None:
    made = CreatedApiKey(secret="aim_0123456789abcdef")
    made.api_key.display_name = "notebook"
    _strip(made)

    assert (made.secret, made.api_key.display_name) == ("", "notebook")
    assert options_pb2.field


def test_secrets_in_texts_are_taken_out() -> None:
    changed = registry_events_pb2.ReleaseChanged()
    changed.release.reason = "see https://me:hunter22@host/x with aim_0123456789abcdef"
    record = only(event_of(changed))
    kept = record.text + str(record.attributes)

    assert "hunter22" not in kept
    assert "0123456789abcdef" not in kept


def test_a_prediction_keeps_its_fields_and_scores() -> None:
    told = {
        "request_id": "r",
        "model": "late",
        "version": 2,
        "status": "ok",
        "duration_ms": 0.5,
        "rows": 1,
        "scores": b"12345678",
    }
    record = only(telemetry(request(logs([Told("prediction", "late", "", ACME, told)])), "Logs"))

    assert (record.kind, record.request_id, record.model, record.version) == ("prediction", "r", "late", 2)
    assert (record.duration_ms, record.scores, dict(record.attributes)) == (0.5, b"12345678", {"rows": 1})
    assert record.text == "prediction of late version 2 ok"


def test_log_records_have_ids_that_stay() -> None:
    body = request(logs([Told("log", "x", "a", ACME), Told("log", "x", "a", ACME)]))
    (first,), _ = decode([telemetry(body, "Logs")])
    (again,), _ = decode([telemetry(body, "Logs")])
    (other,), _ = decode([telemetry(body, "Logs", "batch-2")])

    assert [one.record for one in records_of(first.records)] == [one.record for one in records_of(again.records)]
    assert len({one.record for batch in (first, other) for one in records_of(batch.records)}) == 4


def test_a_span_is_of_its_tenant_and_has_a_duration() -> None:
    span = Span("aimass.v1.Models/GetModel", 10, 11, {"request_id": "r", "status": "internal"})
    span.scope, span.service, span.end_ns = ACME, "registry", span.start_ns + 2_500_000
    record = only(telemetry(request(traces([span]), resource({"service.name": "all"})), "Trace"))

    assert (record.tenant, record.service, record.duration_ms) == ("acme", "registry", 2.5)
    assert record.record == f"{10:032x}-{span.span_id:016x}"
    assert (record.parent_span_id, record.severity, record.status) == (f"{11:016x}", "ERROR", "internal")


def test_figures_are_the_platforms_own() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="aimass_x")
    metric.gauge.data_points.add(as_double=2.5, time_unix_nano=5)
    record = only(telemetry(request.SerializeToString(), "Metrics"))

    assert (record.tenant, record.kind, record.name, record.attributes["value"]) == (
        "system",
        "metric",
        "aimass_x",
        2.5,
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"version": "x", "duration_ms": float("nan")}, (0, None)),
        ({"version": 2**40, "duration_ms": 3}, (0, 3.0)),
        ({"version": True}, (1, None)),
    ],
)
def test_odd_values_are_left_out(given: dict[str, Any], kept: tuple[int, float | None]) -> None:
    record = logged(**given)

    assert (record.version, record.duration_ms) == kept


def test_records_are_bounded() -> None:
    record = logged(**{"a b": "x" * 5000, "request_id": "r" * 5000}, **{f"n{n}": n for n in range(200)})

    assert len(record.attributes) == 64
    assert len(str(record.attributes["a_b"])) == 1000
    assert len(record.request_id) == 256


SAID = {"ce_id": "1", "ce_type": "aimass.v1.SourceChanged", "tenant": "acme"}
KEY = "acme/default/sources/x"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Event("aimass.data.v1", KEY, b"\xff\xff", SAID), "unreadable"),
        (Event("aimass.data.v1", KEY, b"", SAID | {"ce_type": "aimass.v1.Nothing"}), "unreadable"),
        (Event("aimass.data.v1", KEY, b"", {}), "id"),
        (Event("aimass.data.v1", KEY, b"", SAID | {"ce_id": ""}), "id"),
        (Event("aimass.data.v1", KEY, b"", SAID | {"ce_id": "x" * 65}), "id"),
        (Event("aimass.data.v1", KEY, b"", SAID | {"tenant": ""}), "tenant"),
        (Event("aimass.data.v1", KEY, b"", SAID | {"tenant": "victim"}), "tenant"),
        (telemetry(b"\xff\xff", "Logs"), "unreadable"),
        (telemetry(b"", "Profiles"), "unreadable"),
    ],
)
def test_what_cannot_be_read_is_put_aside_with_its_reason(event: Event, reason: str) -> None:
    assert decode([event]) == ([], [(event, reason)])


def test_predictions_told_together_are_the_records_that_they_are_alone() -> None:
    predictions = [
        prediction(rows=count, scores=bytes(8 * count), principal=who) for count in (1, 2) for who in "abaab"
    ]
    predictions += [Told("log", "x", "text", ACME), prediction("call-1"), prediction(duration_ms=float("nan"))]
    bodies = request(logs_with_tables(predictions)), request(logs(predictions))
    found, alone = (list(records_of(decode([telemetry(body, "Logs")])[0][0].records)) for body in bodies)

    assert len(request(logs_with_tables(predictions))) < len(request(logs(predictions)))
    assert len({one.record for one in found}) == len(predictions)
    assert sorted([one._replace(record="") for one in found], key=repr) == sorted(
        [one._replace(record="") for one in alone], key=repr
    )


def test_a_table_that_cannot_be_read_is_put_aside_whole() -> None:
    body = request(logs_with_tables([prediction(), prediction()]))
    at = body.index(b"aimass.columns")
    batches, poison = decode([telemetry(body.replace(b"\x02\x00\x00\x00", b"\x03\x00\x00\x00"), "Logs")])

    assert at > 0
    assert (batches, [why for _, why in poison]) == ([], ["unreadable"])
