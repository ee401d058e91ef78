"""One gateway takes over from another on the same ports, under clients of every kind: nobody sees a failure."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
from grpc import StatusCode, aio

from aimass.v1 import access_pb2, logs_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from aimass.v1.logs_pb2_grpc import LogsStub
from services.kit.status import TRAILER
from tests.support.house import until
from tests.support.server import ROOT, free_ports

KEY = "aim_rolling1_" + "x" * 43
SHORT = 4  # seconds after which streams over gRPC are cancelled: some at any time, also while a gateway stops
LONG = 12  # seconds that events are listened to: longer than a gateway takes to stop
# What docs/guides/refusals.md tells clients to do: a call that reaches a server in the moment in which it stops is
# answered with CANCELLED by the transport, and has had no effect.
REPEATS = """{"methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["CANCELLED"]}}]}"""


class Gateways:
    """Processes on one pair of ports, each with a home of its own; pepper and first key are given to all."""

    def __init__(self, folder: Path) -> None:
        self.folder, (self.http, self.grpc) = folder, free_ports(2)
        self.running: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        home = self.folder / str(len(self.running))
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AIMASS_")}
        env = kept | {
            "AIMASS_HOME": str(home),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'sdk'}",
            "AIMASS_GATEWAY_HTTP_PORT": str(self.http),
            "AIMASS_GATEWAY_GRPC_PORT": str(self.grpc),
            "AIMASS_GATEWAY_REUSE_PORT": "true",
            "AIMASS_GATEWAY_PEPPER": "A" * 43 + "=",
            "AIMASS_GATEWAY_ADMIN_KEY": KEY,
            "AIMASS_GATEWAY_RATE": "100000",
            "AIMASS_GATEWAY_BURST": "100000",
        }
        command = [sys.executable, "-m", "services", "gateway", "logs"]
        with (self.folder / "output").open("ab") as output:
            process = await asyncio.create_subprocess_exec(*command, env=env, cwd=ROOT, stdout=output, stderr=output)
        self.running.append(process)
        await until(lambda: (home / "doors.json").exists() and process.returncode is None, 30)

    async def stop(self, number: int) -> None:
        self.running[number].send_signal(signal.SIGTERM)
        async with asyncio.timeout(25):
            assert await self.running[number].wait() == 0

    async def kill(self) -> None:
        for process in self.running:
            if process.returncode is None:
                process.kill()
                await process.wait()


class Clients:
    """Callers that go on and on, and what went wrong for them."""

    def __init__(self, gateways: Gateways) -> None:
        self.url, self.address = f"http://127.0.0.1:{gateways.http}", f"127.0.0.1:{gateways.grpc}"
        self.headers = {"authorization": f"Bearer {KEY}"}
        self.metadata = (("authorization", f"Bearer {KEY}"),)
        self.done: dict[str, int] = {}
        self.failed: list[str] = []
        self.ended = asyncio.Event()
        self.streams = set[asyncio.Timeout]()

    async def go_on(self, call: Callable[[], Awaitable[None]], pause: float) -> None:
        """Calls until the end; a call that has begun is finished."""
        name = call.__name__
        while not self.ended.is_set():
            try:
                async with asyncio.timeout(20):
                    await call()
                self.done[name] = self.done.get(name, 0) + 1
            except Exception as error:
                self.failed.append(f"{name}: {error!r}")
            await asyncio.sleep(pause)

    async def keep_alive(self) -> None:
        answer = await self.kept.get("/v1/whoami")
        assert answer.status_code == 200, answer.text

    async def new_connection(self) -> None:
        async with httpx2.AsyncClient(base_url=self.url, headers=self.headers, timeout=5, verify=False) as client:
            answer = await client.get("/v1/whoami")
            assert answer.status_code == 200, answer.text

    async def silent(self) -> None:
        """Says nothing for a while after it was accepted."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.url.rpartition(":")[2]))
        await asyncio.sleep(3)
        request = (
            f"GET /v1/whoami HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
        )
        writer.write(request.encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()

    async def grpc_call(self) -> None:
        stub: Any = AccessStub(self.channel)
        await stub.WhoAmI(access_pb2.WhoAmIRequest(), metadata=self.metadata, timeout=10)

    @contextlib.asynccontextmanager
    async def listening(self, seconds: float) -> AsyncIterator[None]:
        """Some seconds, and no longer than to the end. Raises TimeoutError."""
        async with asyncio.timeout(seconds) as limit:
            self.streams.add(limit)
            try:
                yield
            finally:
                self.streams.discard(limit)

    async def grpc_stream(self) -> None:
        """Waits for news, until it is told to come again."""
        stub: Any = LogsStub(self.channel)
        try:
            with contextlib.suppress(TimeoutError):
                async with self.listening(SHORT):
                    async for _ in stub.TailLogs(logs_pb2.TailLogsRequest(query="zzznothing"), metadata=self.metadata):
                        pass
        except aio.AioRpcError as error:
            told = any(key == TRAILER for key, _ in error.trailing_metadata() or ())
            assert told, error
            assert error.code() is StatusCode.UNAVAILABLE, error
            self.done["told"] = self.done.get("told", 0) + 1

    async def events(self) -> None:
        headers = self.headers | {"accept": "text/event-stream"}
        async with (
            httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=30) as client,
            client.stream("GET", "/v1/logs:tail", params={"query": "zzznothing"}) as answer,
        ):
            assert answer.status_code == 200
            with contextlib.suppress(TimeoutError):
                async with self.listening(LONG):
                    text = "".join([part async for part in answer.aiter_text()])
                    assert "retry: 500" in text, text
                    self.done["hinted"] = self.done.get("hinted", 0) + 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All of them at once."""
        options: Any = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", REPEATS)]
        async with (
            httpx2.AsyncClient(base_url=self.url, headers=self.headers, timeout=5) as self.kept,
            aio.insecure_channel(self.address, options=options) as self.channel,
        ):
            kinds = [(self.keep_alive, 0.02), (self.new_connection, 0.02), (self.grpc_call, 0.02)]
            kinds += [(self.silent, 0.1)] * 5 + [(self.grpc_stream, 0.1), (self.events, 0.1)] * 3
            tasks = [asyncio.create_task(self.go_on(*kind)) for kind in kinds]
            try:
                yield
            finally:
                self.ended.set()
                for limit in self.streams:
                    if not limit.expired():  # else it is about to end by itself, and would raise RuntimeError
                        limit.reschedule(0)
                await asyncio.gather(*tasks)


async def test_a_gateway_takes_over_from_another_and_nobody_sees_a_failure(tmp_path: Path) -> None:
    gateways = Gateways(tmp_path)
    clients = Clients(gateways)
    try:
        await gateways.start()
        async with clients.running():
            for number in range(2):
                await gateways.start()
                await gateways.stop(number)
            await asyncio.sleep(1)
    finally:
        await gateways.kill()

    assert clients.failed == [], sorted(set(clients.failed))
    assert min(clients.done.get(name, 0) for name in ("keep_alive", "new_connection", "grpc_call")) > 20
    assert {"silent", "told", "hinted"} <= clients.done.keys(), str(clients.done)
