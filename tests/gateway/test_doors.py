import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.gateway import http_protocol
from services.kit.config import ConfigError
from tests.gateway.conftest import FAST, Gateway, gateway_at
from tests.support.house import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def running(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_at(tmp_path) as found:
        yield found


async def connect(gateway: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = gateway.doors["http"].removeprefix("http://").rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def say(gateway: Gateway, content: bytes) -> bytes:
    """The whole answer to raw bytes, until the other side closes."""
    reader, writer = await connect(gateway)
    writer.write(content)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


def get(path: str, key: str, *more: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", *more, "", ""]
    return "\r\n".join(lines).encode()


async def test_a_file_says_where_the_doors_are(running: Gateway) -> None:
    file = running.home / "doors.json"

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(running.doors) == {"http", "grpc"}
    assert running.doors["http"].startswith("http://127.0.0.1:")


async def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for setting in ("AIMASS_GATEWAY_HTTP_PORT", "AIMASS_GATEWAY_GRPC_PORT"):
            with pytest.raises(ConfigError, match=f"{setting}: port {port} of 127.0.0.1 is taken"):
                async with gateway_at(tmp_path / setting, **{setting: port}):
                    pass


@pytest.mark.parametrize(
    "content",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: header\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_a_problem_and_is_cut(running: Gateway, content: bytes) -> None:
    answer = await say(running, content)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401"))
    assert b"application/problem+json" in head
    assert json.loads(body[: body.rindex(b"}") + 1])["code"] in ("bad_framing", "unauthenticated")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("GET http://localhost/v2/health/live", 200),
        ("GET /v2/health/live#part", 200),
        ("GET /v2//health/live", 404),
        ("GET //v2/health/live", 404),
        ("GET /v1/%ff%2F", 404),
        ("OPTIONS *", 404),
        ("OPTIONS /v2/health/live", 405),
        ("GET ?a=1", 400),
        ("GET http://localhost", 400),
        ("CONNECT localhost:80", 400),
        ("GET /" + "a" * 17_000, 431),
    ],
)
async def test_a_target_of_any_form_is_read_or_refused(gateway: Gateway, target: str, status: int) -> None:
    head = ["", "host: localhost", f"authorization: Bearer {gateway.admin}", "connection: close", "", ""]
    answer = await say(gateway, f"{target} HTTP/1.1".encode() + "\r\n".join(head).encode())

    assert answer.startswith(b"HTTP/1.1 %d " % status)


async def test_a_request_behind_another_on_one_connection_has_its_own_answer(gateway: Gateway) -> None:
    key = f"host: localhost\r\nauthorization: Bearer {gateway.admin}\r\n"
    first = f"GET /v2/health/live HTTP/1.1\r\n{key}x-request-id: one\r\n\r\n"
    second = f"GET /v1/a%2Fb HTTP/1.1\r\n{key}x-request-id: two\r\nconnection: close\r\n\r\n"
    answer = await say(gateway, (first + second).encode())

    one, _, two = answer.partition(b"HTTP/1.1 404")
    assert one.startswith(b"HTTP/1.1 200")
    assert (b"x-request-id: one" in one, b"x-request-id: two" in two) == (True, True)


async def test_endless_headers_are_cut(running: Gateway) -> None:
    one = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
    answer = await say(running, one + b"".join(b"x-%d: %s\r\n" % (n, b"a" * 1000) for n in range(150)))

    assert answer.startswith(b"HTTP/1.1 431")


async def test_many_headers_are_refused(running: Gateway) -> None:
    answer = await say(running, get("/health/live", "x", *(f"x-{n}: 1" for n in range(120))))

    assert answer.startswith(b"HTTP/1.1 431")


async def test_slow_headers_and_silence_have_an_end(running: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEADER_SECONDS", 0.2)
    monkeypatch.setattr(http_protocol, "SILENT_SECONDS", 0.2)

    assert (await say(running, b"GET /health/live HTTP/1.1\r\nHost:")).startswith(b"HTTP/1.1 408")
    assert await say(running, b"") == b""


async def test_a_connection_beyond_the_cap_is_closed(tmp_path: Path) -> None:
    async with gateway_at(tmp_path, AIMASS_GATEWAY_MAX_CONNECTIONS="2") as running:
        kept = [await connect(running) for _ in range(2)]
        await asyncio.sleep(0.05)
        reader, writer = await connect(running)
        with_error: Any = await asyncio.gather(reader.read(), return_exceptions=True)
        writer.close()
        for _, one in kept:
            one.close()

    assert with_error[0] == b"" or isinstance(with_error[0], ConnectionError)


async def test_a_connection_is_used_again_and_pipelined_requests_are_answered_in_turn(running: Gateway) -> None:
    reader, writer = await connect(running)
    ask = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %d\r\n\r\n"
    writer.write(ask % 1 + ask % 2)
    first = await asyncio.wait_for(reader.readuntil(b"}"), 5)
    second = await asyncio.wait_for(reader.readuntil(b"}"), 5)
    writer.close()

    assert b"x-request-id: 1" in first
    assert b"x-request-id: 2" in second


async def test_who_is_in_flight_is_served_to_the_end(tmp_path: Path) -> None:
    env = {"AIMASS_GATEWAY_DRAIN_ACCEPT_SECONDS": "0.3", "AIMASS_GATEWAY_DRAIN_SILENT_SECONDS": "2"}
    async with gateway_at(tmp_path, AIMASS_DRAIN_SECONDS="5", **env) as running:
        key, home = running.admin, running.home
        idle, silent, late = [await connect(running) for _ in range(3)]
        idle[1].write(get("/v1/whoami", key))
        await idle[0].readuntil(b"}")
        upload = await connect(running)
        upload[1].write(b"POST /v1/tenants HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        upload[1].write(f"Authorization: Bearer {key}\r\nContent-Length: 18\r\n\r\n".encode())
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(running.house.process.stop())
        await asyncio.sleep(0.1)
        fresh = await connect(running)
        fresh[1].write(get("/v1/whoami", key))
        accepted = await asyncio.wait_for(fresh[0].read(), 2)
        probe = await connect(running)
        probe[1].write(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        ready = await asyncio.wait_for(probe[0].read(), 2)
        await asyncio.sleep(0.4)
        silent[1].write(get("/v1/whoami", key))
        served = await asyncio.wait_for(silent[0].read(), 2)
        upload[1].write(b'{"tenant": "last"}')
        finished = await asyncio.wait_for(upload[0].read(), 2)
        closed = await asyncio.wait_for(idle[0].read(), 2)
        late[1].close()
        await asyncio.wait_for(stopping, 5)
        for _, writer in (idle, silent, upload, fresh, probe):
            writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", int(str(fresh[1].get_extra_info("peername")[1])))

    assert accepted.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in accepted
    assert ready.startswith(b"HTTP/1.1 503")
    assert served.startswith(b"HTTP/1.1 200")
    assert finished.startswith(b"HTTP/1.1 200")
    assert closed == b""
    assert not (home / "doors.json").exists()


async def test_a_client_that_hangs_up_ends_its_call(gateway: Gateway) -> None:
    seen = gateway.services["aimass.v1.Logs"].seen
    reader, writer = await connect(gateway)
    writer.write(get("/v1/logs:tail?query=slow", gateway.admin, "Accept: application/x-ndjson"))
    await reader.readline()
    count = len(seen)
    writer.close()
    await asyncio.sleep(0.05)

    assert len(seen) >= count > 0
    async with gateway.client() as client:
        assert (await client.get("/v1/whoami")).status_code == 200


async def test_a_killed_gateway_comes_back_with_its_keys(tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AIMASS_")}
    env = {**kept, **FAST, "AIMASS_HOME": str(tmp_path)}
    tenants: list[str] = []
    for turn in range(2):
        (tmp_path / "doors.json").unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services", "gateway", env=env)
        await until(lambda: (tmp_path / "doors.json").exists(), 20)
        running = Gateway(None, tmp_path, {})  # type: ignore[arg-type]
        async with running.client() as client:
            made = await client.post("/v1/tenants", json={"tenant": f"turn-{turn}"})
            tenants = [t["tenant"] for t in (await client.get("/v1/tenants")).json()["tenants"]]
        process.send_signal(signal.SIGKILL if turn == 0 else signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == (-9 if turn == 0 else 0)
        assert made.status_code == 200

    assert tenants == ["default", "system", "turn-0", "turn-1"]


async def test_a_whole_answer_keeps_the_rules_of_its_connection(running: Gateway) -> None:
    """Kept open for the next request, closed for HTTP/1.0 and when asked to, without a body for HEAD."""
    key, path = running.admin, "/v2"
    both = get(path, key) + get(path, key, "Connection: close")
    answers = await say(running, both)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert answers.lower().count(b"connection: close") == 1
    assert answers.count(b'"extensions"') == 2

    old = await say(running, get(path, key).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert b"connection: close" in old.lower()
    head = await say(running, get(path, key, "Connection: close").replace(b"GET", b"HEAD", 1))
    assert head.endswith(b"\r\n\r\n")
    assert b"content-length: 0" not in head


async def test_a_body_that_comes_late_is_waited_for(running: Gateway) -> None:
    reader, writer = await connect(running)
    content = b'{"inputs": []}'
    lines = [f"Host: localhost\r\nAuthorization: Bearer {running.admin}", f"Content-Length: {len(content)}", "", ""]
    writer.write(("POST /v2/models/nothing/infer HTTP/1.1\r\n" + "\r\n".join(lines)).encode() + content[:4])
    await asyncio.sleep(0.05)
    writer.write(content[4:])
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 4")
    writer.close()
