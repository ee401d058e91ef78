"""Requests that nobody honest sends (RELIABILITY, section 7): the rows that docs/abuse.md says are tested here."""

import asyncio
import contextlib
import gzip
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx2
import pytest
from grpc import aio
from sqlalchemy import text

from tests.fuzz.wire import Answer, ask
from tests.gateway.conftest import FAST, Gateway, gateway_at
from tests.gateway.test_bad_inputs import BODIES
from tests.support.house import house, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
MEBIBYTE = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")
IDLE, CAP = 2_000, 500  # connections that say little, and those that a gateway has at most
MODELS = "aimass.v1.Models"
START = b"POST /v1/models HTTP/1.1"


def head(gateway: Gateway, *lines: bytes, start: bytes = START) -> bytes:
    own = (start, b"Host: localhost", b"Authorization: Bearer " + gateway.admin.encode())
    return b"\r\n".join((*own, b"Content-Type: application/json", *lines, b"", b""))


def port(gateway: Gateway) -> int:
    return urlsplit(gateway.doors["http"]).port or 0


def resident() -> int:
    """Bytes of memory that this process, with the gateway in it, holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


async def flood(gateway: Gateway, *lines: bytes) -> int:
    """Sends 256 MiB in chunks for as long as anybody takes them; returns how many MiB that were."""
    _, writer = await asyncio.open_connection("127.0.0.1", port(gateway))
    writer.write(head(gateway, b"Transfer-Encoding: chunked", *lines))
    taken = 0
    with contextlib.suppress(ConnectionError):
        while taken < 256:
            writer.write(b"100000\r\n" + bytes(MEBIBYTE) + b"\r\n")
            await writer.drain()
            taken += 1
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return taken


async def test_a7_a_body_beyond_the_limit_is_refused_closed_and_not_kept(gateway: Gateway) -> None:
    async with gateway.client() as client:
        assert (await client.post("/v1/models", json={"model": "small"})).status_code == 200
    before, most, done = resident(), 0, asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, resident())
            await asyncio.sleep(0.005)

    watching = asyncio.ensure_future(watch())
    declared = await ask(port(gateway), head(gateway, b"Content-Length: 1000000000", b"Expect: 100-continue"), 30)
    taken = await flood(gateway)
    done.set()
    await watching

    assert [(one.status, one.headers[b"connection"]) for one in declared] == [(413, b"close")]
    assert json.loads(declared[0].body)["code"] == "body_too_large"
    assert taken < 200  # its connection was closed
    assert most - before <= 32 * MEBIBYTE


@pytest.mark.parametrize("path", [b"/v1/models", b"/v2/models/late/infer"])
async def test_a7_a_compressed_body_is_not_opened(gateway: Gateway, path: bytes) -> None:
    bomb = gzip.compress(bytes(256 * MEBIBYTE), 9)
    before, held = len(gateway.services[MODELS].seen), resident()
    lines = (b"Content-Encoding: gzip", b"Content-Length: %d" % len(bomb), b"Connection: close")
    answers = await ask(port(gateway), head(gateway, *lines, start=b"POST %b HTTP/1.1" % path) + bomb, 30)

    assert [(one.status, one.headers[b"accept-encoding"]) for one in answers][:1] == [(415, b"identity")]
    assert json.loads(answers[0].body)["code"] == "unsupported_media_type"
    assert resident() - held <= 32 * MEBIBYTE
    assert len(gateway.services[MODELS].seen) == before


async def test_a7_a_compressed_body_without_end_is_cut(gateway: Gateway) -> None:
    assert await flood(gateway, b"Content-Encoding: gzip") < 200


async def test_a7_over_grpc_a_message_that_unpacks_to_more_than_one_may_be_is_refused(gateway: Gateway) -> None:
    bomb = bytes(64 * MEBIBYTE)
    shown = (("authorization", f"Bearer {gateway.admin}"),)
    async with aio.insecure_channel(gateway.doors["grpc"]) as channel:
        call: Any = channel.unary_unary("/aimass.v1.Access/WhoAmI")
        with pytest.raises(aio.AioRpcError, match="Decompressed message larger than max") as caught:
            await call(bomb, metadata=shown, compression=grpc.Compression.Gzip, timeout=30)

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


BODY = b'{"model":"framed"}'
FRAMINGS = {
    "two lengths": ((b"Content-Length: 18", b"Transfer-Encoding: chunked"), b"12\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a length that is there twice": ((b"Content-Length: 18", b"Content-Length: 17"), BODY),
    "a length with a sign": ((b"Content-Length: +18",), BODY),
    "a chunk without a size": ((b"Transfer-Encoding: chunked",), b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": ((b"Transfer-Encoding: chunked",), b"5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a folded header": ((b"X-One: a\r\n b", b"Content-Length: 18"), BODY),
    "a space before the colon": ((b"Content-Length : 18",), BODY),
}


@pytest.mark.parametrize("what", FRAMINGS)
async def test_a9_a_framing_that_can_be_read_in_two_ways_reaches_nobody(gateway: Gateway, what: str) -> None:
    lines, body = FRAMINGS[what]
    before = len(gateway.services[MODELS].seen)
    hidden = head(gateway, b"Content-Length: 18") + BODY
    answers = await ask(port(gateway), head(gateway, *lines) + body + hidden, 30)

    assert [(answer.status, _code(answer)) for answer in answers] == [(400, "bad_framing")]
    assert answers[0].headers[b"connection"] == b"close"
    assert len(gateway.services[MODELS].seen) == before


async def test_a9_lines_that_end_without_a_carriage_return_reach_nobody(gateway: Gateway) -> None:
    before = len(gateway.services[MODELS].seen)
    sent = (head(gateway, b"Content-Length: 18")).replace(b"\r\n", b"\n") + BODY
    answers = await ask(port(gateway), sent, 30)

    assert [(answer.status, _code(answer)) for answer in answers] == [(400, "bad_framing")]
    assert len(gateway.services[MODELS].seen) == before


def _code(answer: Answer) -> str:
    return str(json.loads(answer.body)["code"])


@pytest.mark.parametrize("what", BODIES)
async def test_a10_and_a11_a_document_that_cannot_be_meant_reaches_nobody(gateway: Gateway, what: str) -> None:
    before = len(gateway.services[MODELS].seen)
    async with gateway.client(**{"content-type": "application/json"}) as client:
        answer = await client.post("/v1/models", content=BODIES[what])

    refusals = (400, "malformed_json"), (422, "invalid_value"), (422, "invalid_name")
    assert (answer.status_code, answer.json()["code"]) in refusals
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(gateway.services[MODELS].seen) == before


async def test_a15_a_deadline_that_passes_ends_the_work_and_leaves_a_keyed_retry_safe(gateway: Gateway) -> None:
    headers = {"x-request-timeout": "0.3", "x-request-id": "late-15", "idempotency-key": "fifteen"}
    async with gateway.client() as client:
        answer = await client.post("/v1/models", json={"model": "patient"}, headers=headers)
        await until(lambda: "late-15" in gateway.services[MODELS].given_up)
        again = await client.post("/v1/models", json={"model": "patient"}, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert (again.status_code, again.json()["code"]) == (504, "deadline_exceeded")
    keys = [call.metadata["idempotency-key"] for call in gateway.services[MODELS].seen if call.request_id == "late-15"]
    assert keys == ["fifteen", "fifteen"]


async def test_a18_where_nothing_can_be_written_reads_go_on(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as running:
        database = running.house.runtime.apps["gateway"].database
        assert database
        await database.run(lambda connection: connection.execute(text("PRAGMA max_page_count = 1")) and None)
        async with running.client() as client:
            answers: list[Any] = []
            while not answers or answers[-1].status_code == 200:  # until the last page is full
                many = {"display_name": "x" * 100, "permissions": ["models.get"] * 50}
                answers.append(await client.post("/v1/api-keys", json=many))
                assert len(answers) < 2000
            read = await client.get("/v1/api-keys")
            who = await client.get("/v1/whoami")

    assert (answers[-1].status_code, answers[-1].json()["code"]) == (507, "storage_full")
    assert (read.status_code, who.status_code) == (200, 200)


async def test_a18_on_a_disk_as_full_as_it_may_be_nothing_large_is_written_and_all_else_goes_on(tmp_path: Path) -> None:
    async with house(tmp_path, "gateway", "data", **FAST) as running, Gateway(running, tmp_path, {}).client() as client:
        upload = (await client.post("/v1/uploads", json={})).json()["upload"]
        before = (await client.put(f"/v1/uploads/{upload}?offset=0", content=b"a,b")).json()
    env = FAST | {"AIMASS_DISK_PERCENT": "0"}
    async with house(tmp_path, "gateway", "data", **env) as running, Gateway(running, tmp_path, {}).client() as client:
        refused = [
            await client.post("/v1/uploads", json={}),
            await client.put(f"/v1/uploads/{upload}?offset=3", content=b",c"),
        ]
        read = (await client.get(f"/v1/uploads/{upload}")).json()
        small = await client.post("/v1/api-keys", json={"display_name": "small"})

    assert [(one.status_code, one.json()["code"]) for one in refused] == [(507, "storage_full")] * 2
    assert (read["committed_size"], small.status_code) == (before["committed_size"], 200) == ("3", 200)


@contextlib.asynccontextmanager
async def idling(to: int) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Another process that holds connections; gives how many of them are closed, each time that has been looked at."""
    command = sys.executable, "-m", "tests.gateway.idling", str(to), str(IDLE)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)

    async def closed() -> int:
        assert process.stdout
        return int(await process.stdout.readline())

    try:
        yield closed
    finally:
        async with asyncio.timeout(20):
            await process.communicate(b"")


async def p99(client: httpx2.AsyncClient) -> float:
    """Seconds that one request of a hundred takes longer than."""
    taken: list[float] = []
    for _ in range(300):
        begun = time.perf_counter()
        assert (await client.get("/v1/whoami")).status_code == 200
        taken.append(time.perf_counter() - begun)
    return sorted(taken)[-4]


async def test_a35_who_holds_connections_and_says_little_keeps_nobody_out_who_has_one(tmp_path: Path) -> None:
    quick = {"AIMASS_GATEWAY_RATE": "100000", "AIMASS_GATEWAY_BURST": "100000"}
    env = quick | {"AIMASS_GATEWAY_MAX_CONNECTIONS": str(CAP)}
    async with gateway_at(tmp_path, **env) as running, running.client() as client:
        alone = [await p99(client) for _ in range(3)]
        async with idling(port(running)) as closed:
            async with asyncio.timeout(60):
                while await closed() <= IDLE - CAP:
                    pass
            beside = [await p99(client)]
            while beside[-1] > 2 * max(alone) and len(beside) < 20:  # what else this machine does passes
                beside.append(await p99(client))
        alone += [await p99(client) for _ in range(3)]

    assert min(beside) <= 2 * max(alone)
