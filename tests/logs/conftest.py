"""A log centre, and a place that webhooks arrive at."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import logs_pb2 as pb
from aimass.v1.logs_pb2_grpc import LogsStub
from services.kit.auth import Scope
from services.kit.telemetry import Record
from services.logs.search.index import Index
from tests.support.house import House, house, until

ACME = Scope("acme")


@dataclass
class Arrival:
    """One request that a sink got."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Sink:
    """An HTTP server that answers as told and keeps what arrives."""

    port: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # of the next answers; then 200
    holds: asyncio.Event | None = None  # answers wait for it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                self.arrivals.append(Arrival(headers, body))
                if self.holds:
                    await self.holds.wait()
                status = self.statuses.pop(0) if self.statuses else 200
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An empty index."""
    yield from opened(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """One for all tests of a module."""
    yield from opened(tmp_path_factory.mktemp("index"))


def opened(folder: Path) -> Iterator[Index]:
    made = Index(folder)
    made.open()
    yield made
    made.close()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    made = Sink()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    if made.holds:
        made.holds.set()
    server.close()


@pytest.fixture
async def centre(tmp_path: Path) -> AsyncIterator[House]:
    """A log centre whose webhooks may go to the loopback and are tried again soon."""
    async with logs(tmp_path) as running:
        yield running


def logs(home: Path, **env: str) -> Any:
    """A log centre on a home folder."""
    settings = {"AIMASS_EGRESS_ALLOW": "127.0.0.1", "AIMASS_LOGS_WEBHOOK_SCHEDULE": "0.1,0.1", **env}
    return house(home, "logs", **settings)


async def tell(running: House, *records: Record) -> None:
    """Says what a service's telemetry would say."""
    for record in records:
        running.runtime.telemetry.record(record)
    await running.runtime.telemetry.flush()


def line(text: str, tenant: str = "acme", **attributes: Any) -> Record:
    return Record("log", "services.test", text, Scope(tenant), attributes)


async def search(running: House, query: str, tenant: str = "acme", **more: Any) -> list[pb.LogRecord]:
    stub = running.stub(LogsStub, "logs", tenant=tenant)
    answer = await stub.SearchLogs(pb.SearchLogsRequest(query=query, page_size=1000, **more))
    return list(answer.records)


async def found(running: House, query: str, count: int = 1, tenant: str = "acme") -> list[pb.LogRecord]:
    """The records of a query, once there are so many."""
    kept: list[pb.LogRecord] = []

    async def enough() -> bool:
        kept[:] = await search(running, query, tenant)
        return len(kept) >= count

    await until(enough)
    return kept
