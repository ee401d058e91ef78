"""Who hangs up stops the work that was done for him, wherever it was."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from grpc import aio

from aimass.v1 import models_pb2, operations_pb2
from aimass.v1.models_pb2_grpc import ModelsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from services.gateway.edge import Edge
from services.gateway.request import Request, Response
from tests.gateway.conftest import Gateway
from tests.support.house import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
MODELS, OPERATIONS, ARTIFACTS = "aimass.v1.Models", "aimass.v1.Operations", "aimass.v1.Artifacts"


@contextlib.asynccontextmanager
async def asked(gateway: Gateway, name: str, path: str, *lines: str) -> AsyncIterator[Any]:
    """A connection on which a request for a path was written; closed without a word."""
    host, port = gateway.doors["http"].removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = [f"GET {path} HTTP/1.1", f"host: {host}", f"authorization: Bearer {gateway.admin}", f"x-request-id: {name}"]
    writer.write("\r\n".join([*head, *lines, "", ""]).encode())
    try:
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def logged(gateway: Gateway, name: str) -> dict[str, Any] | None:
    """The request's line in the access log."""
    text = (gateway.home / "logs" / "access.log").read_text()
    found: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines() if f'"{name}"' in line]
    return found[0] if found else None


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def channel(gateway: Gateway) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(gateway.doors["grpc"]) as opened:
        yield opened


async def test_an_answer_that_nobody_waits_for_is_not_made(gateway: Gateway) -> None:
    echo = gateway.services[MODELS]
    async with asked(gateway, "left-1", "/v1/models/patient"):
        await until(lambda: "left-1" in echo.waiting)
        assert "left-1" not in echo.given_up

    await until(lambda: "left-1" in echo.given_up)
    line = await until(lambda: logged(gateway, "left-1"))
    assert line["status"] == 499


async def test_who_hangs_up_with_a_second_request_behind_the_first_stops_the_first(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = gateway.doors["http"].removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"GET /v1/models/patient HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {gateway.admin}\r\n"
    writer.write("".join(f"{head}x-request-id: {name}\r\n\r\n" for name in ("left-8", "left-9")).encode())
    echo = gateway.services[MODELS]
    await until(lambda: "left-8" in echo.waiting)
    writer.close()

    await until(lambda: "left-8" in echo.given_up)
    line = await until(lambda: logged(gateway, "left-8"))
    assert line["status"] == 499
    assert "left-9" not in echo.waiting
    assert not caplog.records


async def test_a_request_that_is_followed_by_another_is_not_taken_for_left(gateway: Gateway) -> None:
    async with asked(gateway, "left-2", "/v1/models/late") as reader:
        first = await asyncio.wait_for(reader.readuntil(b"}"), 10)

    assert b"200 OK" in first


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_a_stream_that_nobody_reads_is_closed_where_it_comes_from(gateway: Gateway, accept: str) -> None:
    echo, name = gateway.services[OPERATIONS], f"left-{accept.replace('/', '-')}"
    async with asked(gateway, name, "/v1/operations/trainer-patient:stream", f"accept: {accept}") as reader:
        assert b"item-0" in await asyncio.wait_for(reader.readuntil(b"item-0"), 10)
        await until(lambda: name in echo.waiting)

    await until(lambda: name in echo.given_up)


async def test_a_download_that_nobody_reads_is_closed_too(gateway: Gateway) -> None:
    echo = gateway.services[ARTIFACTS]
    async with asked(gateway, "left-4", "/v1/artifacts/sha256:patient") as reader:
        await asyncio.wait_for(reader.readuntil(b"first "), 10)
        await until(lambda: "left-4" in echo.waiting)

    await until(lambda: "left-4" in echo.given_up)


async def test_a_stream_that_has_said_nothing_yet_is_closed_too(gateway: Gateway) -> None:
    echo = gateway.services[OPERATIONS]
    async with asked(gateway, "left-5", "/v1/operations/trainer-silent:stream"):
        await until(lambda: "left-5" in echo.waiting)

    await until(lambda: "left-5" in echo.given_up)


async def test_a_cancelled_call_over_grpc_is_cancelled_behind_the_door(gateway: Gateway, channel: Any) -> None:
    stub: Any = ModelsStub(channel)
    metadata = (("authorization", f"Bearer {gateway.admin}"), ("x-request-id", "left-6"))
    call = stub.GetModel(models_pb2.GetModelRequest(model="patient"), metadata=metadata)
    await until(lambda: "left-6" in gateway.services[MODELS].waiting)
    call.cancel()

    await until(lambda: "left-6" in gateway.services[MODELS].given_up)
    line = await until(lambda: logged(gateway, "left-6"))
    assert (line["method"], line["status"]) == ("GRPC", 499)


async def test_a_cancelled_stream_over_grpc_is_cancelled_behind_the_door(gateway: Gateway, channel: Any) -> None:
    stub: Any = OperationsStub(channel)
    metadata = (("authorization", f"Bearer {gateway.admin}"), ("x-request-id", "left-7"))
    request = operations_pb2.GetOperationRequest(operation="trainer-patient")
    call = stub.StreamOperation(request, metadata=metadata)
    assert (await call.read()).operation == "item-0"
    call.cancel()

    await until(lambda: "left-7" in gateway.services[OPERATIONS].given_up)


async def test_a_deadline_that_passes_is_no_hanging_up(gateway: Gateway) -> None:
    async with gateway.client() as client:
        headers = {"x-request-timeout": "0.2", "x-request-id": "left-8"}
        answer = await client.get("/v1/models/patient", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    await until(lambda: "left-8" in gateway.services[MODELS].given_up)


async def test_a_prediction_that_nobody_waits_for_is_given_up(gateway: Gateway, monkeypatch: Any) -> None:
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def predict(request: Request) -> Response:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return Response(200, b"")

    monkeypatch.setattr(edge_of(gateway), "_predictions", predict)
    async with asked(gateway, "left-9", "/v2/models/late"):
        await asyncio.wait_for(waiting.wait(), 10)

    await asyncio.wait_for(ended.wait(), 10)
    assert (await until(lambda: logged(gateway, "left-9")))["status"] == 499


async def test_a_connection_outlives_its_predictions(gateway: Gateway) -> None:
    async with gateway.client() as client:
        answers = [await client.get("/v2/health/live") for _ in range(3)]

    assert [answer.json() for answer in answers] == [{"live": True}] * 3


def edge_of(gateway: Gateway) -> Edge:
    (doors,) = gateway.house.runtime.apps["gateway"].doors
    found = doors._http._app  # type: ignore[attr-defined]
    assert isinstance(found, Edge)
    return found
