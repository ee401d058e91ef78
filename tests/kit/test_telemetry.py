import asyncio
import json
import logging
import logging.handlers
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

from services.kit import telemetry
from services.kit.auth import Scope
from services.kit.bus import Event, Reader
from services.kit.errors import Unavailable
from services.kit.event import TELEMETRY
from services.kit.redaction import redact
from services.kit.telemetry import Record, Telemetry, metrics, otlp, pipeline, spans, unsent
from services.kit.telemetry.files import process_log

ACME = Scope("acme")
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


class MemoryBus:
    """Keeps what is published; may be away."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.away, self.most = False, 2**40

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def publish(self, events: Sequence[Event]) -> None:
        if self.away or sum(event.size for event in events) > self.most:
            raise Unavailable("the bus is away")
        self.events += events

    async def reader(self, topics: Sequence[str], group: str, from_end: bool = False) -> Reader:
        raise NotImplementedError

    async def lag(self) -> dict[str, int]:
        return {}

    def spans(self) -> list[OtlpSpan]:
        bodies = [ExportTraceServiceRequest.FromString(e.body) for e in self.events if ".trace." in e.type]
        return [span for body in bodies for span in body.resource_spans[0].scope_spans[0].spans]

    def logs(self) -> list[dict[str, object]]:
        found = []
        for event in self.events:
            if ".logs." in event.type:
                for record in (
                    ExportLogsServiceRequest.FromString(event.body).resource_logs[0].scope_logs[0].log_records
                ):
                    found.append(
                        attributes(record) | {"body": record.body.string_value, "trace": record.trace_id.hex()}
                    )
        return found


def attributes(thing: object) -> dict[str, object]:
    pairs = thing.attributes  # type: ignore[attr-defined]
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus()


@pytest.fixture
async def told(tmp_path: Path, bus: MemoryBus) -> Telemetry:
    made = Telemetry("test", tmp_path)
    made._bus = bus
    return made


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    for handler in list(logging.getLogger("services").handlers):
        logging.getLogger("services").removeHandler(handler)
        handler.close()


async def test_a_span_says_whose_it_is_and_under_whom(told: Telemetry, bus: MemoryBus) -> None:
    with telemetry.span("work", {"traceparent": PARENT, "x-request-id": "r-1"}, model="late") as span:
        telemetry.belongs(ACME, "registry")
        telemetry.failed(span, "not_found")
    await told.close()

    (found,) = bus.spans()
    assert (found.trace_id.hex(), found.parent_span_id.hex()) == ("a" * 32, "b" * 16)
    assert attributes(found) == {
        "aimass.tenant": "acme",
        "aimass.project": "default",
        "service.name": "registry",
        "request_id": "r-1",
        "model": "late",
        "status": "not_found",
        "error.type": "not_found",
    }


async def test_an_inner_span_belongs_to_the_same_tenant_and_request(told: Telemetry, bus: MemoryBus) -> None:
    with telemetry.span("outer", {"x-request-id": "r-1"}) as outer:
        telemetry.belongs(ACME, "data")
        with telemetry.span("inner"):
            pass
    await told.close()

    inner = bus.spans()[0]
    assert inner.parent_span_id == outer.span_id.to_bytes(8, "big")
    assert attributes(inner)["aimass.tenant"] == "acme"
    assert attributes(inner)["request_id"] == "r-1"


async def test_tasks_do_not_see_each_others_spans(told: Telemetry) -> None:
    async def work(name: str) -> str:
        with telemetry.span(name):
            await asyncio.sleep(0)
            return telemetry.traceparent()

    first, second = await asyncio.gather(work("a"), work("b"))
    assert first[3:35] != second[3:35]
    assert telemetry.traceparent() == ""
    await told.close()


@pytest.mark.parametrize(
    "text", ["", "00", "00-" + "z" * 32 + "-" + "b" * 16 + "-01", "00-" + "0" * 32 + "-" + "b" * 16 + "-01"]
)
async def test_a_traceparent_that_is_none_begins_a_trace(told: Telemetry, text: str) -> None:
    with telemetry.span("work", {"traceparent": text}) as span:
        assert span.parent_id == 0
    await told.close()


async def test_calls_of_the_bus_leave_no_spans(told: Telemetry, bus: MemoryBus) -> None:
    with telemetry.span("aimass.v1.Bus/Publish"):
        pass
    await told.close()

    assert bus.events == []


async def test_a_prediction_keeps_its_scores(told: Telemetry, bus: MemoryBus) -> None:
    told.record(
        Record("prediction", "late", "", ACME, {"version": 3, "scores": b"12345678", "duration_ms": 0.5}, trace=PARENT)
    )
    await told.close()

    (found,) = bus.logs()
    assert (found["aimass.kind"], found["version"], found["scores"], found["duration_ms"]) == (
        "prediction",
        3,
        b"12345678",
        0.5,
    )
    assert found["trace"] == "a" * 32
    assert bus.events[0].topic == TELEMETRY


async def test_a_log_record_in_a_span_belongs_to_its_tenant(told: Telemetry, bus: MemoryBus, tmp_path: Path) -> None:
    with telemetry.span("work", {"x-request-id": "r-1"}):
        telemetry.belongs(ACME)
        logging.getLogger("services.data.x").warning("used aim_0123456789abcdef")
    await told.close()

    (found,) = bus.logs()
    assert (found["aimass.tenant"], found["request_id"], found["body"]) == ("acme", "r-1", "used aim_[redacted]")
    line = json.loads((tmp_path / "logs" / "test.log").read_text())
    assert (line["tenant"], line["request_id"], line["message"]) == ("acme", "r-1", "used aim_[redacted]")


async def test_the_log_centres_own_log_stays_in_the_file(told: Telemetry, bus: MemoryBus, tmp_path: Path) -> None:
    logging.getLogger("services.logs.ingest").error("disk")
    await told.close()

    assert bus.logs() == []
    assert "disk" in (tmp_path / "logs" / "test.log").read_text()


async def test_what_does_not_fit_is_counted(told: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_BOUND", 2)
    for number in range(5):
        told.record(Record("log", str(number), "", ACME))
        with telemetry.span("work"):
            pass

    assert told.dropped == 6
    assert b'aimass_telemetry_dropped_total{kind="span"}' in telemetry.exposition()
    await told.close()


async def test_large_records_are_bounded_by_their_bytes(told: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_HELD", 10_000)
    for _ in range(5):
        told.record(Record("prediction", "late", "", ACME, {"scores": bytes(5_000)}))

    assert told.dropped == 3
    await told.close()


async def test_a_bus_that_is_away_gets_the_same_events_later(told: Telemetry, bus: MemoryBus) -> None:
    bus.away = True
    told.record(Record("log", "a", "first", ACME))
    await told.flush()
    assert bus.events == []

    bus.away = False
    told.record(Record("log", "a", "second", ACME))
    await told.close()
    assert [found["body"] for found in bus.logs()] == ["first", "second"]


async def test_figures_are_counted_of_spans_and_published(told: Telemetry, bus: MemoryBus) -> None:
    with telemetry.span("aimass.v1.Models/Test") as span:
        telemetry.belongs(ACME, "registry")
        telemetry.failed(span, "not_found")
    await told.flush()
    await told.measure()
    await told.close()

    text = telemetry.exposition().decode()
    assert 'aimass_requests_total{name="aimass.v1.Models/Test",service="registry",status="not_found"} 1.0' in text
    (event,) = [event for event in bus.events if ".metrics." in event.type]
    metrics = ExportMetricsServiceRequest.FromString(event.body).resource_metrics[0].scope_metrics[0].metrics
    assert {"aimass_requests_total", "aimass_request_seconds_count"} <= {metric.name for metric in metrics}


async def test_records_may_come_from_any_thread(told: Telemetry, bus: MemoryBus) -> None:
    def tell() -> None:
        for number in range(500):
            told.record(Record("log", "a", str(number), ACME))

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    await told.close()

    assert len(bus.logs()) == 2000


async def test_a_process_publishes_by_itself(tmp_path: Path, bus: MemoryBus) -> None:
    made = Telemetry("test", tmp_path)
    made.start(bus)
    made.record(Record("log", "a", "x", ACME))
    async with asyncio.timeout(5):
        while not bus.events:
            await asyncio.sleep(0.02)
    await made.close()


async def test_what_goes_on_coming_goes_out_in_larger_pieces(
    tmp_path: Path, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_EVERY", 0.0)
    monkeypatch.setattr(pipeline, "_STEADY", 1000.0)
    monkeypatch.setattr(pipeline, "_BATCH", 5)
    made = Telemetry("test", tmp_path)
    made.start(bus)
    async with asyncio.timeout(20):
        for pieces in range(10):
            made.record(Record("log", "a", "x", ACME))
            while len(bus.events) <= pieces:
                await asyncio.sleep(0)
        for _ in range(5):
            made.record(Record("log", "a", "x", ACME))
        while len(bus.events) < 11:  # as much as a batch takes waits for nothing
            await asyncio.sleep(0)
        made.record(Record("log", "a", "x", ACME))
        for _ in range(1000):
            await asyncio.sleep(0)
    assert [len(sent) for sent in sizes(bus)] == [*[1] * 10, 5]
    await made.close()

    assert len(bus.logs()) == 16


def sizes(bus: MemoryBus) -> list[list[object]]:
    bodies = [ExportLogsServiceRequest.FromString(event.body) for event in bus.events]
    return [list(body.resource_logs[0].scope_logs[0].log_records) for body in bodies]


@given(st.text(st.sampled_from("0123456789abcdefABCDEF-x"), max_size=60))
def test_no_traceparent_is_a_bug(text: str) -> None:
    found = spans._parent(text)

    assert found is None or (0 < found[0] < 2**128 and 0 < found[1] < 2**64)


def test_a_traceparent_is_read_back() -> None:
    with telemetry.span("outer") as outer:
        assert spans._parent(telemetry.traceparent()) == (outer.trace_id, outer.span_id)


def test_a_span_may_end_in_another_task_than_it_began_in() -> None:
    async def begin() -> spans.Span:
        return telemetry.span("stream").__enter__()

    async def both() -> None:
        begun = await asyncio.create_task(begin())
        begun.__exit__(None, None, None)
        assert begun.end_ns >= begun.start_ns
        assert telemetry.current() is None

    asyncio.run(both())


async def test_a_log_record_says_itself_whose_it_is(told: Telemetry, bus: MemoryBus) -> None:
    with telemetry.span("work"):
        telemetry.belongs(ACME)
        logging.getLogger("services.gateway.x").info("hello", extra={"tenant": "rival", "request_id": "r-2"})
    await told.close()

    (found,) = bus.logs()
    assert (found["aimass.tenant"], found["request_id"], found["service.name"]) == ("rival", "r-2", "gateway")


async def test_what_a_log_call_adds_is_in_the_file_and_can_be_searched(
    told: Telemetry, bus: MemoryBus, tmp_path: Path
) -> None:
    labels = {"source": "flights-db", "rows": 3, "key": "aim_0123456789abcdef", "place": Path("x"), "severity": "none"}
    logging.getLogger("services.data.x").info("read", extra={**labels, "operator": True})
    await told.close()

    (found,) = bus.logs()
    line = json.loads((tmp_path / "logs" / "test.log").read_text())
    for said in (found, line):
        assert (said["source"], said["rows"], said["key"], said["place"]) == ("flights-db", 3, "aim_[redacted]", "x")
        assert "operator" not in said
    assert line["severity"] == "INFO", "a label is in the place of no field"


async def test_an_exception_leaves_its_trace_in_the_file_without_secrets(told: Telemetry, tmp_path: Path) -> None:
    try:
        raise ValueError("postgresql://app:hunter22@db/x")
    except ValueError:
        logging.getLogger("services.data.x").exception("it failed")
    await told.close()

    line = json.loads((tmp_path / "logs" / "test.log").read_text())
    assert "ValueError" in line["trace"]
    assert "hunter22" not in line["trace"]


async def test_the_log_file_is_rotated(tmp_path: Path) -> None:
    handler = process_log(tmp_path, "test")
    assert isinstance(handler, logging.handlers.RotatingFileHandler)
    handler.maxBytes = 500
    for number in range(50):
        handler.emit(logging.LogRecord("services.x", logging.INFO, "", 0, "line %d", (number,), None))
    handler.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.log", "test.log.1", "test.log.2", "test.log.3"]


async def test_names_of_spans_are_bounded_as_labels(told: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_names", set())
    monkeypatch.setattr(metrics, "_MOST", 2)
    for number in range(5):
        with telemetry.span(f"bounded-{number}"):
            pass
    await told.close()

    text = telemetry.exposition().decode()
    assert "bounded-1" in text
    assert "bounded-4" not in text
    assert 'aimass_requests_total{name="other"' in text


async def test_values_of_every_kind_become_attributes(told: Telemetry, bus: MemoryBus) -> None:
    values = {"a": True, "b": 2**70, "c": 0.5, "d": b"x", "e": "Bearer 0123456789", "f": None, "g": -5}
    told.record(Record("log", "x", "", ACME, values))
    await told.close()

    (found,) = bus.logs()
    kept = {name: found[name] for name in values}
    assert kept == values | {"b": str(2**70), "e": "Bearer [redacted]", "f": "None"}


async def test_a_batch_is_bounded_by_its_bytes(told: Telemetry, bus: MemoryBus) -> None:
    for _ in range(5):
        told.record(Record("prediction", "late", "", ACME, {"scores": bytes(1_500_000)}))
    await told.close()

    assert len(bus.logs()) == 5
    assert max(len(event.body) for event in bus.events) < 4 * 2**20


async def test_what_waited_for_the_bus_comes_in_pieces_that_it_takes(told: Telemetry, bus: MemoryBus) -> None:
    """A bus refuses what is too large, as unavailable: asked with everything again and again, it would for ever."""
    bus.away = True
    for _ in range(20):
        told.record(Record("prediction", "late", "", ACME, {"scores": bytes(1_500_000)}))
        await told.flush()
    bus.away, bus.most = False, 16 * 2**20
    await told.close()

    assert len(bus.logs()) == 20


async def test_batches_that_wait_too_long_are_dropped_and_counted(
    told: Telemetry, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsent, "_MOST", 3)
    bus.away = True
    for number in range(6):
        told.record(Record("log", "x", str(number), ACME))
        await told.flush()
    bus.away = False
    await told.close()

    assert [found["body"] for found in bus.logs()] == ["3", "4", "5"]
    assert told.dropped == 3


async def test_a_span_may_say_at_once_whose_it_is(told: Telemetry, bus: MemoryBus) -> None:
    with telemetry.span("GET /v1/models", {"x-request-id": "r-1"}, tenant="acme", project="flights"):
        pass
    await told.close()

    (found,) = bus.spans()
    kept = attributes(found)
    assert (kept["aimass.tenant"], kept["aimass.project"], kept["request_id"]) == ("acme", "flights", "r-1")
    assert "tenant" not in kept


@given(
    st.dictionaries(
        st.text(max_size=150),
        st.text(max_size=300)
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False)
        | st.booleans()
        | st.binary(),
        max_size=5,
    ),
    st.text(max_size=300),
)
def test_what_is_written_as_bytes_is_what_the_protocol_reads(values: dict[str, object], text: str) -> None:
    batch = [Record("log", "x", text, ACME, values, "ERROR", "data", PARENT, time_ns=5)] * 2
    request = ExportLogsServiceRequest.FromString(otlp.request(otlp.logs(batch)))

    found = request.resource_logs[0].scope_logs[0].log_records[1]
    named = {"aimass.kind": "log", "aimass.name": "x", "aimass.tenant": "acme", "aimass.project": "default"}
    pairs = [(pair.key, getattr(pair.value, pair.value.WhichOneof("value") or "")) for pair in found.attributes]
    clean = {name: redact(value) if isinstance(value, str) else value for name, value in values.items()}
    assert pairs == [*named.items(), ("service.name", "data"), *clean.items()]
    assert [type(value) for _, value in pairs[5:]] == [type(value) for value in values.values()]
    assert (found.body.string_value, found.severity_text, found.severity_number) == (redact(text), "ERROR", 17)
    assert (found.time_unix_nano, found.trace_id.hex(), found.span_id.hex()) == (5, "a" * 32, "b" * 16)


async def test_what_comes_while_a_batch_is_published_waits_for_the_next(told: Telemetry, bus: MemoryBus) -> None:
    def again(events: Sequence[Event]) -> None:
        told.record(Record("log", "x", "late", ACME))

    kept = bus.publish

    async def publish(events: Sequence[Event]) -> None:
        again(events)
        await kept(events)

    bus.publish = publish  # type: ignore[method-assign]
    told.record(Record("log", "x", "first", ACME))
    await told.flush()

    assert [found["body"] for found in bus.logs()] == ["first"]
    bus.publish = kept  # type: ignore[method-assign]
    await told.close()
    assert [found["body"] for found in bus.logs()] == ["first", "late"]


async def test_predictions_are_counted_by_their_records(told: Telemetry) -> None:
    told.record(Record("prediction", "late", "", ACME, {"duration_ms": 2.0}, service="gateway"))
    await told.close()

    text = telemetry.exposition().decode()
    assert 'aimass_requests_total{name="prediction",service="gateway",status="ok"}' in text
    assert 'aimass_request_seconds_bucket{le="0.0025",name="prediction",service="gateway"}' in text


def test_a_record_of_its_own_is_in_the_callers_trace_or_in_a_new_one() -> None:
    assert telemetry.child(PARENT)[3:35] == "a" * 32
    assert telemetry.child(PARENT)[36:52] not in ("b" * 16, telemetry.child(PARENT)[36:52])
    assert telemetry.child() != telemetry.child("nonsense")
    assert telemetry.child("", "0192ab00-0000-7000-8000-0000000000ff")[3:35] == "0192ab000000700080000000000000ff"
    assert "call-1" not in telemetry.child("", "call-1")
    with telemetry.span("outer"):
        assert telemetry.child() == telemetry.traceparent()
        assert telemetry.child(PARENT)[3:35] == "a" * 32
