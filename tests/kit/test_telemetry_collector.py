"""Telemetry at an operator's collector: a receiver that decodes real messages, over gRPC and HTTP."""

import asyncio
import gzip
import logging
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from deploy.authority import Authority, write
from services.kit import adapters, telemetry
from services.kit.auth import Scope
from services.kit.config import ConfigError
from services.kit.telemetry import Record, Telemetry, collector, metrics
from services.kit.telemetry.collector_http import HttpTransport
from services.kit.telemetry.settings import read
from tests.kit.test_telemetry import MemoryBus
from tests.kit.test_telemetry_columns import prediction
from tests.support.collector import Collector, values
from tests.support.collector import collector as collecting
from tests.support.house import house, until
from tests.support.server import free_ports

ACME = Scope("acme")
PROTOCOLS = ("grpc", "http/protobuf")


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(collector, "_SHORTEST", 0.05)
    yield
    for handler in list(logging.getLogger("services").handlers):
        logging.getLogger("services").removeHandler(handler)
        handler.close()


@asynccontextmanager
async def telling(home: Path, url: str, protocol: str, **env: str) -> AsyncIterator[Telemetry]:
    """A process's telemetry that goes to a collector."""
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, **env}
    made = Telemetry("registry", home)
    made.start(MemoryBus(), adapters.collector(settings, made.process, "registry-1"))
    yield made
    await made.close()


def tell(made: Telemetry, *texts: str) -> None:
    for text in texts:
        made.record(Record("log", "x", text, ACME))


async def test_logs_spans_and_figures_arrive(tmp_path: Path, protocol: str) -> None:
    async with collecting(protocol) as there, telling(tmp_path, there.url, protocol) as made:
        with telemetry.span("aimass.v1.Models/Get"):
            telemetry.belongs(ACME, "registry")
        tell(made, "hello")
        await made.measure()
        await until(lambda: all(there.received.values()))

    assert [record.body.string_value for record in there.logs()] == ["hello"]
    assert [span.name for span in there.spans()] == ["aimass.v1.Models/Get"]
    assert {"aimass.requests", "aimass.request_seconds", "process.cpu.time"} <= there.metrics().keys()


async def test_the_collector_gets_each_prediction_by_itself(tmp_path: Path, protocol: str) -> None:
    predictions = [prediction(), prediction()]
    async with collecting(protocol) as there, telling(tmp_path, there.url, protocol) as made:
        for one in predictions:
            made.record(one)
        await until(there.logs)

    assert [values(one)["request_id"] for one in there.logs()] == [one.attributes["request_id"] for one in predictions]


async def test_the_collector_gets_what_the_log_centre_gets(tmp_path: Path, protocol: str) -> None:
    async with collecting(protocol) as there, telling(tmp_path, there.url, protocol) as made:
        tell(made, "Bearer 0123456789abcdef")
        await until(there.logs)

    assert there.logs()[0].body.string_value == "Bearer [redacted]"


async def test_a_process_says_what_it_is(tmp_path: Path, protocol: str) -> None:
    settings = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=pre%20production,service.name=x"}
    async with collecting(protocol) as there, telling(tmp_path, there.url, protocol, **settings) as made:
        tell(made, "hello")
        await until(there.logs)

    about = there.resource("logs")
    assert about["deployment.environment.name"] == "pre production"
    assert about["service.instance.id"] == "registry-1"
    assert about["service.version"] == telemetry.version()
    assert about["service.name"] == "x"


async def test_a_named_service_has_that_name_everywhere(tmp_path: Path, protocol: str) -> None:
    settings = {"OTEL_SERVICE_NAME": "models", "OTEL_RESOURCE_ATTRIBUTES": "service.name=x"}
    async with collecting(protocol) as there, telling(tmp_path, there.url, protocol, **settings) as made:
        with telemetry.span("work"):
            pass
        await made.measure()
        await until(lambda: there.received["traces"] and there.received["metrics"])

    assert there.resource("traces")["service.name"] == there.resource("metrics")["service.name"] == "models"


async def test_headers_and_compression_are_as_the_operator_says(tmp_path: Path, protocol: str) -> None:
    settings = {"OTEL_EXPORTER_OTLP_HEADERS": "X-Key=a%3Db, x-team=one", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
    async with collecting(protocol) as there, telling(tmp_path, there.url, protocol, **settings) as made:
        tell(made, "hello" * 1000)
        await until(there.logs)

    assert {"x-key": "a=b", "x-team": "one"}.items() <= there.headers[0].items()
    assert "gzip" in (there.headers[0].get("content-encoding") or there.headers[0].get("grpc-encoding") or "gzip")
    assert there.logs()[0].body.string_value == "hello" * 1000


async def test_each_signal_may_go_elsewhere_or_nowhere(tmp_path: Path, protocol: str) -> None:
    path = "/v1/logs" if protocol == "http/protobuf" else ""
    async with collecting(protocol) as there:
        settings = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": there.url + path}
        async with telling(tmp_path, "", protocol, **settings) as made:
            with telemetry.span("work"):
                pass
            tell(made, "hello")
            await made.measure()
            await until(there.logs)

    assert not there.received["traces"]
    assert not there.received["metrics"]


def away(protocol: str) -> Any:
    return grpc.StatusCode.UNAVAILABLE if protocol == "grpc" else 503


def wrong(protocol: str) -> Any:
    return grpc.StatusCode.INVALID_ARGUMENT if protocol == "grpc" else 400


async def test_a_batch_that_was_not_taken_comes_again_in_its_order(tmp_path: Path, protocol: str) -> None:
    async with collecting(protocol) as there, telling(tmp_path, there.url, protocol) as made:
        there.answers = [away(protocol)] * 2
        tell(made, "first")
        await until(lambda: there.asked)
        tell(made, "second")
        await until(lambda: len(there.logs()) == 2)

    assert [record.body.string_value for record in there.logs()] == ["first", "second"]


async def test_a_batch_that_is_refused_is_counted_and_not_the_last(tmp_path: Path, protocol: str) -> None:
    before = dropped()
    async with collecting(protocol) as there, telling(tmp_path, there.url, protocol) as made:
        there.answers = [wrong(protocol)]
        tell(made, "first")
        await until(lambda: there.asked)
        tell(made, "second")
        await until(there.logs)

    assert [record.body.string_value for record in there.logs()] == ["second"]
    assert dropped() == before + 1


async def test_parts_that_the_collector_did_not_want_are_counted(tmp_path: Path, protocol: str) -> None:
    before, response = dropped(), ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = 3
    async with collecting(protocol) as there, telling(tmp_path, there.url, protocol) as made:
        there.reply = response.SerializeToString()
        tell(made, "hello")
        await until(lambda: dropped() == before + 3)


def dropped() -> float:
    return metrics.REGISTRY.get_sample_value("aimass_telemetry_dropped_total", {"kind": "collector"}) or 0.0


async def test_what_a_dead_collector_misses_is_bounded_and_the_newest_is_kept(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "_HELD", 5_000)
    (port,) = free_ports(1)
    before = dropped()
    async with telling(tmp_path, f"http://127.0.0.1:{port}", protocol) as made:
        for number in range(6):
            tell(made, str(number) + "x" * 1_500)
            await made.flush()
        assert dropped() >= before + 3
        async with collecting(protocol, port) as there:
            await until(lambda: there.logs() and there.logs()[-1].body.string_value[0] == "5")

    assert there.logs()[0].body.string_value[0] != "0"


async def test_the_log_centre_does_not_miss_what_a_dead_collector_does(tmp_path: Path, protocol: str) -> None:
    async with telling(tmp_path, f"http://127.0.0.1:{free_ports(1)[0]}", protocol) as made:
        tell(made, "hello")
        await made.flush()
        bus = made._bus
        assert isinstance(bus, MemoryBus)
        assert [record["body"] for record in bus.logs()] == ["hello"]


async def test_a_process_that_stops_does_not_wait_for_a_dead_collector(tmp_path: Path, protocol: str) -> None:
    async with telling(tmp_path, f"http://127.0.0.1:{free_ports(1)[0]}", protocol) as made:
        tell(made, "hello")
        await made.flush()
        log = tmp_path / "logs" / "registry.log"
        await until(lambda: "logs wait for the collector" in log.read_text())
        began = time.monotonic()

    assert time.monotonic() - began < 1.5


async def test_a_collector_that_swallows_batches_is_waited_for_two_seconds(tmp_path: Path) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with telling(tmp_path, url, "http/protobuf") as made:
        tell(made, "hello")
        await made.flush()
        began = time.monotonic()
    server.close()

    assert 1.0 < time.monotonic() - began < 5


async def test_what_waits_at_the_end_goes_out(tmp_path: Path, protocol: str) -> None:
    async with collecting(protocol) as there:
        async with telling(tmp_path, there.url, protocol) as made:
            tell(made, "last words")

        assert [record.body.string_value for record in there.logs()] == ["last words"]


async def test_a_collector_shows_a_certificate_of_whom_the_operator_believes(tmp_path: Path, protocol: str) -> None:
    authority = Authority.new()
    issued = authority.issue_public(["localhost"])
    for name, content in (("ca.pem", authority.pem), ("key.pem", issued.key), ("cert.pem", issued.cert)):
        write(tmp_path / name, content)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    shown: Any = grpc.ssl_server_credentials([(issued.key, issued.cert)]) if protocol == "grpc" else context
    settings = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path / "ca.pem")}
    async with collecting(protocol, credentials=shown) as there:
        async with telling(
            tmp_path / "good", there.url.replace("127.0.0.1", "localhost"), protocol, **settings
        ) as made:
            tell(made, "hello")
            await until(there.logs)
        async with telling(tmp_path / "bad", there.url.replace("127.0.0.1", "localhost"), protocol) as made:
            tell(made, "a stranger's")
            log = tmp_path / "bad" / "logs" / "registry.log"
            await until(lambda: "logs wait for the collector" in log.read_text())

    assert len(there.logs()) == 1


async def test_histograms_arrive_with_their_buckets(tmp_path: Path, protocol: str) -> None:
    async with collecting(protocol) as there, telling(tmp_path, there.url, protocol) as made:
        name = f"aimass.v1.Models/Buckets-{protocol}"
        with telemetry.span(name):
            telemetry.belongs(ACME, "registry")
        await made.flush()
        await made.measure()
        await until(lambda: there.received["metrics"])

    points = there.metrics()["aimass.request_seconds"].histogram.data_points
    (point,) = [point for point in points if values(point).get("name") == name]
    assert point.count == sum(point.bucket_counts) == 1
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1


async def test_a_wait_that_the_collector_asks_for_is_kept() -> None:
    server = await asyncio.start_server(_busy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = HttpTransport("logs", f"http://127.0.0.1:{port}/v1/logs", {}, 5, True, None)
    with pytest.raises(collector.Away) as caught:
        await transport.send(gzip.compress(b"x"))
    await transport.close()
    server.close()

    assert caught.value.seconds == 7


async def _busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 429 x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:nowhere"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://collector"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
    ],
)
def test_a_setting_that_cannot_be_stops_the_start(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=variable) as caught:
        adapters.collector({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", variable: value}, "registry", "registry-1")

    assert "secret" not in str(caught.value)


def test_an_address_over_http_gets_the_path_of_its_signal() -> None:
    settings = read(
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://x/otlp/", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://y/z"}
    )

    assert settings.endpoint("traces") == "https://x/otlp/v1/traces"
    assert settings.endpoint("logs") == "https://y/z"


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_SERVICE_NAME": "x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_PYTHON_LOG_LEVEL": "loud"},
    ],
)
def test_without_an_address_nothing_is_sent(env: dict[str, str]) -> None:
    assert adapters.collector(env, "registry", "registry-1") is None


async def test_a_process_sends_by_its_environment(tmp_path: Path, protocol: str) -> None:
    async with (
        collecting(protocol) as there,
        house(
            tmp_path, "registry", OTEL_EXPORTER_OTLP_ENDPOINT=there.url, OTEL_EXPORTER_OTLP_PROTOCOL=protocol
        ) as running,
    ):
        await until(there.logs)
        about = there.resource("logs")

    assert about["service.name"] == "aimass-registry"
    assert about["service.instance.id"] == running.runtime.instance
    assert isinstance(there, Collector)
