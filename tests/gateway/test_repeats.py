"""Requests whose head has come before, beside the same ones read in full: nobody can tell which was which."""

import asyncio
import contextlib
import gc
import json
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aimass import Signer
from services.gateway import http_protocol, repeats
from services.gateway.edge import Edge
from services.gateway.http_protocol import HttpProtocol
from services.gateway.repeats import Repeat
from services.gateway.traffic.engines import Inference
from services.gateway.traffic.lanes import Waiting
from services.gateway.traffic.service import Submitted
from services.kit.errors import Unavailable
from tests.gateway.issuing import Issuer, rsa_key, write
from tests.gateway.serving import Serving, serving
from tests.support.house import until
from tests.support.models import logistic

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH = "/v2/models/late/infer"
ROW = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0.5, -1.25, 2.0, 0.125]}]}
BODY = json.dumps(ROW).encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("home")) as found:
        await found.serve("late", logistic(4, 1))
        yield found


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Paths of requests that are read in full."""
    read, seen = Edge.__call__, Counter[str]()

    async def counted(self: Edge, scope: Any, receive: Any, send: Any) -> None:
        seen[scope["raw_path"].decode()] += 1
        await read(self, scope, receive, send)

    monkeypatch.setattr(Edge, "__call__", counted)
    return seen


class Caller:
    """One connection of a client that always writes the same head."""

    def __init__(self, app: Serving, key: str = "", path: str = PATH, *more: str) -> None:
        self._url, self._key, self._path, self._more = app.doors["http"], key or app.key, path, more

    async def __aenter__(self) -> "Caller":
        host, _, port = self._url.removeprefix("http://").rpartition(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def head(self, length: int) -> bytes:
        lines = [f"POST {self._path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self._key}"]
        return "\r\n".join([*lines, f"Content-Length: {length}", *self._more, "", ""]).encode()

    async def write(self, *parts: bytes) -> None:
        """In packets of their own."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0.02 if len(parts) > 1 else 0)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(20):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = dict(line.split(": ", 1) for line in lines)
            return int(first.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def ask(self, body: bytes = BODY) -> tuple[int, dict[str, str], bytes]:
        await self.write(self.head(len(body)) + body)
        return await self.answer()


def alike(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, dict[str, str], bytes]:
    """An answer without what differs each time."""
    status, headers, body = answer
    changing = ("x-request-id", "date", "ratelimit-remaining", "ratelimit-reset")
    own = re.sub(rb'"request_id":"[^"]+"', b"", body)
    return status, {name: "" if name in changing else text for name, text in headers.items()}, own


async def test_a_repeat_is_answered_as_what_was_read_in_full(app: Serving, full: Counter[str]) -> None:
    async with Caller(app, "", PATH, "X-Of: first") as caller:
        first, *others = [await caller.ask() for _ in range(5)]

    assert first[0] == 200
    assert [alike(other) for other in others] == [alike(first)] * 4
    assert len({headers["x-request-id"] for _, headers, _ in others}) == 4
    assert full[PATH] == 1


async def test_a_head_is_known_on_every_connection(app: Serving, full: Counter[str]) -> None:
    for _ in range(3):
        async with Caller(app, "", PATH, "X-Of: every") as caller:
            assert (await caller.ask())[0] == 200

    assert full[PATH] == 1


async def test_binary_values_are_read_and_written(app: Serving, full: Counter[str]) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    async with Caller(app, "", PATH, f"Inference-Header-Content-Length: {len(text)}") as caller:
        first, second = [await caller.ask(text + bytes(16)) for _ in range(2)]

    assert (first[0], alike(second), full[PATH]) == (200, alike(first), 1)


@pytest.mark.parametrize(
    "cuts", [(0,), (0, 10), (10,), (-200,), (-1,), (len(BODY) - 1,)],
    ids=["before the body", "and in it", "in the body", "in the head", "before the empty line ends", "before the end"],
)  # fmt: skip
async def test_a_repeat_may_come_in_pieces(app: Serving, cuts: tuple[int, ...]) -> None:
    async with Caller(app, "", PATH, f"X-Of: {cuts}") as caller:
        whole = await caller.ask()
        request = caller.head(len(BODY)) + BODY
        ends = [0, *(len(request) - len(BODY) + cut for cut in cuts), len(request)]
        for _ in range(2):
            await caller.write(*(request[a:b] for a, b in pairwise(ends)))
            assert alike(await caller.answer()) == alike(whole)


async def test_a_body_in_a_packet_of_its_own_is_still_a_repeat(app: Serving, full: Counter[str]) -> None:
    async with Caller(app, "", PATH, "X-Of: apart") as caller:
        await caller.ask()
        for _ in range(3):
            await caller.write(caller.head(len(BODY)), BODY)
            assert (await caller.answer())[0] == 200

    assert full[PATH] == 1


async def test_requests_behind_one_another_are_answered_in_their_order(app: Serving) -> None:
    bodies = [json.dumps({**ROW, "id": f"n{n}"}).encode().ljust(200) for n in range(6)]
    async with Caller(app, "", PATH, "X-Of: order") as caller:
        await caller.ask(bodies[0])
        for together in (6, 1, 2):
            requests = [caller.head(200) + body for body in bodies]
            for at in range(0, 6, together):
                caller.writer.write(b"".join(requests[at : at + together]))
            found = [await caller.answer() for _ in bodies]
            assert [json.loads(body)["id"] for _, _, body in found] == [f"n{n}" for n in range(6)]


async def test_the_end_of_a_head_is_no_head(app: Serving, full: Counter[str]) -> None:
    async with Caller(app, "", PATH, "X-Of: end") as caller:
        head = caller.head(len(BODY))
        junk = f"POST {PATH} HTTP/1.1\r\nX-Junk: ".encode()
        # The first packet ends within a head, so that the second begins like one.
        await caller.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" + junk, head + BODY)
        assert [(await caller.answer())[0] for _ in range(2)] == [200, 200]
        before = full[PATH]
        await caller.ask()

    assert full[PATH] == before + 1


@pytest.mark.parametrize("line", ["X-Request-Id: mine", "traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01"])
async def test_what_is_said_of_one_request_only_is_not_kept(app: Serving, full: Counter[str], line: str) -> None:
    async with Caller(app, "", PATH, line) as caller:
        for _ in range(2):
            assert (await caller.ask())[0] == 200

    assert full[PATH] == 2


async def test_what_is_wrong_is_said_as_ever(app: Serving, full: Counter[str]) -> None:
    size = len(BODY)
    wrong = [b"{" + b" " * (size - 1), BODY.replace(b"FP32", b"FP64"), b'{"inputs": []}'.ljust(size)]
    async with Caller(app, "", f"{PATH}?full", "X-Of: wrong") as one, Caller(app, "", PATH, "X-Of: wrong") as other:
        await other.ask()
        for body in wrong:
            expected, found = alike(await one.ask(body)), alike(await other.ask(body))
            assert 400 <= expected[0] < 500
            assert found == expected
        assert (await other.ask())[0] == 200

    assert full[PATH] == 1 + len(wrong)  # those with a query are


async def test_a_key_that_is_revoked_is_refused(app: Serving) -> None:
    key = await app.new_key("models.infer")
    async with Caller(app, key) as caller, app.client() as admin:
        assert [(await caller.ask())[0] for _ in range(2)] == [200, 200]
        await admin.delete(f"/v1/api-keys/{key.split('_')[1]}")
        assert (await caller.ask())[0] == 401


async def changed(app: Serving, verb: str, path: str, body: Any, **headers: str) -> Any:
    async with app.client(**{name.replace("_", "-"): value for name, value in headers.items()}) as admin:
        answer = await admin.request(verb, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_a_head_with_a_secret_that_was_replaced_ends_in_its_time(app: Serving, full: Counter[str]) -> None:
    key = (await changed(app, "POST", "/v1/api-keys", {"permissions": ["models.infer"]}))["secret"]
    until = datetime.now(UTC) + timedelta(seconds=2)
    async with Caller(app, key, PATH, "X-Of: replaced") as caller:
        seen = [(await caller.ask())[0] for _ in range(3)]
        wanted = {"old_expire_time": until.isoformat()}
        new = (await changed(app, "POST", f"/v1/api-keys/{key[4:12]}:rotate", wanted))["secret"]
        full.clear()
        seen += [(await caller.ask())[0] for _ in range(3)]
        read = full[PATH]
        await asyncio.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
        seen += [(await caller.ask())[0] for _ in range(2)]
    full.clear()
    async with Caller(app, new, PATH, "X-Of: replaced") as caller:
        after = [(await caller.ask())[0] for _ in range(3)]

    assert (seen, after) == ([200] * 6 + [401] * 2, [200] * 3)
    assert (read, full[PATH]) == (3, 1)


async def test_a_head_of_a_key_for_some_addresses_is_read_each_time(app: Serving, full: Counter[str]) -> None:
    wanted = {"permissions": ["models.infer"], "addresses": ["127.0.0.0/8"]}
    key = (await changed(app, "POST", "/v1/api-keys", wanted))["secret"]
    async with Caller(app, key, PATH, "X-Of: placed") as caller:
        seen = [(await caller.ask())[0] for _ in range(3)]
        await changed(app, "PATCH", f"/v1/api-keys/{key[4:12]}", {"addresses": ["10.0.0.0/8"]}, if_match="*")
        seen.append((await caller.ask())[0])

    assert (seen, full[PATH]) == ([200] * 3 + [401], 4)


async def test_a_known_head_of_a_key_that_is_for_other_models_now_is_refused(app: Serving) -> None:
    key = (await changed(app, "POST", "/v1/api-keys", {"models": ["late"]}))["secret"]
    async with Caller(app, key, PATH, "X-Of: models") as caller:
        seen = [(await caller.ask())[0] for _ in range(2)]
        await changed(app, "PATCH", f"/v1/api-keys/{key[4:12]}", {"models": ["fraud-*"]}, if_match="*")
        seen.append((await caller.ask())[0])

    assert seen == [200, 200, 403]


async def test_a_head_with_a_token_is_read_each_time(tmp_path: Path, full: Counter[str]) -> None:
    issuer = Issuer()
    issuer.keys["one"] = rsa_key()
    file = write(tmp_path / "issuers.toml", issuer.entry())
    settings = {"AIMASS_GATEWAY_ISSUERS_FILE": str(file), "AIMASS_EGRESS_ALLOW": f"127.0.0.1:{issuer.port}"}
    async with serving(tmp_path / "home", **settings) as app:
        await app.serve("late", logistic(4, 1))
        async with Caller(app, issuer.token()) as caller:
            seen = [(await caller.ask())[0] for _ in range(3)]
    issuer.close()

    assert (seen, full[PATH]) == ([200] * 3, 3)


async def test_a_role_that_changes_counts_for_heads_that_are_known(app: Serving) -> None:
    async with app.client() as admin:
        await admin.post("/v1/roles", json={"role": "scorer", "permissions": ["models.infer"]})
        key = (await admin.post("/v1/api-keys", json={"bindings_only": True})).json()["secret"]
        where = {"role": "scorer", "principal": f"key:{key[4:12]}", "objects": ["models/lat*"]}
        await admin.post("/v1/bindings", json={"binding": "scores", **where})
        async with Caller(app, key) as caller:
            seen = [(await caller.ask())[0] for _ in range(2)]
            await admin.patch("/v1/roles/scorer", json={"permissions": ["models.get"]}, headers={"if-match": "*"})
            seen.append((await caller.ask())[0])
            await admin.patch("/v1/roles/scorer", json={"permissions": ["models.infer"]}, headers={"if-match": "*"})
            seen += [(await caller.ask())[0] for _ in range(2)]
            await admin.delete("/v1/bindings/scores", headers={"if-match": "*"})
            seen.append((await caller.ask())[0])

    assert seen == [200, 200, 403, 200, 200, 403]


async def test_a_role_that_changes_elsewhere_leaves_a_known_head_known(app: Serving, full: Counter[str]) -> None:
    key = await app.new_key("models.infer")
    async with app.client() as admin, Caller(app, key) as caller:
        await caller.ask()
        await admin.post("/v1/roles", json={"role": "other", "permissions": ["models.get"]})
        assert (await caller.ask())[0] == 200

    assert full[PATH] == 1


async def test_a_limit_counts_repeats(app: Serving) -> None:
    async with app.client() as admin:
        wanted = {"permissions": ["models.infer"], "rate_limit": {"rate": 0.01, "burst": 4}}
        key = (await admin.post("/v1/api-keys", json=wanted)).json()["secret"]
    async with Caller(app, key) as caller:
        found = [await caller.ask() for _ in range(6)]

    assert [status for status, _, _ in found] == [200] * 4 + [429] * 2
    assert [headers["ratelimit-remaining"] for _, headers, _ in found[:4]] == ["3", "2", "1", "0"]
    assert int(found[-1][1]["retry-after"]) > 1


async def test_another_version_answers_as_soon_as_it_serves(app: Serving, full: Counter[str]) -> None:
    await app.serve("fresh", logistic(4, 1))
    async with Caller(app, "", "/v2/models/fresh/infer") as caller:
        before = [await caller.ask() for _ in range(2)]
        await app.serve("fresh", logistic(4, 2))
        after = await caller.ask()

    assert [headers["model-version"][0] for _, headers, _ in (*before, after)] == ["1", "1", "2"]
    assert full["/v2/models/fresh/infer"] == 1


async def test_a_repeat_is_in_the_access_log_once(app: Serving) -> None:
    async with Caller(app, "", PATH, "X-Of: log") as caller:
        await caller.ask()
        _, headers, body = await caller.ask()
    path = app.house.runtime.home / "logs" / "access.log"

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines() if headers["x-request-id"] in line]

    [line] = await until(lines)
    assert (line["status"], line["path"], line["bytes"], line["model"], line["version"]) == (
        200, PATH, len(body), "late", "1",
    )  # fmt: skip
    assert (line["method"], line["tenant"], line["address"]) == ("POST", "default", "127.0.0.1")


async def test_who_hangs_up_during_a_repeat_stops_its_call(app: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def patient(*_: Any) -> list[Any]:
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.set()
            raise
        return []

    async with Caller(app, "", PATH, "X-Of: gone") as caller:
        await caller.ask()
        monkeypatch.setattr(Inference, "infer", patient)
        await caller.write(caller.head(len(BODY)) + BODY)
        async with asyncio.timeout(5):
            await begun.wait()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_who_waits_for_a_call_that_is_cut_off_is_answered(app: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a connection that is closed below it: nobody who still waits may be left without a word."""

    async def cut(*_: Any) -> list[Any]:
        raise asyncio.CancelledError

    async with Caller(app, "", PATH, "X-Of: cut") as caller:
        await caller.ask()
        with monkeypatch.context() as patched:
            patched.setattr(Inference, "infer", cut)
            status, headers, body = await caller.ask()
            first = await app.post(PATH, BODY)
        again = await caller.ask()

    assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "1", "unavailable")
    assert (first.status_code, again[0]) == (503, 200)


async def test_what_a_repeat_was_made_of_goes_with_its_answer(app: Serving, full: Counter[str]) -> None:
    async with Caller(app, "", PATH, "X-Of: garbage") as caller:
        await caller.ask()
        gc.disable()
        try:
            gc.collect()
            for _ in range(20):
                assert (await caller.ask())[0] == 200
            kept = Counter(
                type(one).__name__ for one in gc.get_objects() if isinstance(one, Repeat | Submitted | Waiting)
            )
        finally:
            gc.enable()

    assert full[PATH] == 1
    assert not kept


async def test_who_does_not_read_his_answers_has_few_of_them_kept(
    app: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, write = [0], HttpProtocol.answer

    def measured(self: HttpProtocol, *args: Any) -> None:
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        write(self, *args)
        kept.append(self.transport.get_write_buffer_size())

    monkeypatch.setattr(HttpProtocol, "answer", measured)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1000, 4], "data": [1] * 4000}
    body = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
    async with Caller(app, "", PATH, "X-Of: deaf") as caller, asyncio.timeout(60):
        await caller.ask(body)
        for answered in range(1, 300):
            caller.writer.write(caller.head(len(body)) + body)
            with contextlib.suppress(TimeoutError):  # he waits
                async with asyncio.timeout(1):
                    while len(kept) == answered:
                        await asyncio.sleep(0.001)
            if len(kept) == answered:
                break
        assert 0 < max(kept) < 2**18
        assert [(await caller.answer())[0] for _ in range(20)] == [200] * 20
        caller.writer.transport.abort()  # closed, it would wait for the server to read what it was sent


async def test_who_never_reads_his_answers_loses_his_connection(app: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "UNREAD_SECONDS", 0.2)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1000, 4], "data": [1] * 4000}
    body = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
    async with Caller(app, "", PATH, "X-Of: dead") as caller, asyncio.timeout(30):
        await caller.ask(body)
        with contextlib.suppress(ConnectionError):  # nothing else ends it
            while True:
                await caller.write(caller.head(len(body)) + body)


async def test_a_repeat_has_an_end_in_time(app: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    async def patient(*_: Any) -> list[Any]:
        await asyncio.sleep(30)
        return []

    async with Caller(app, "", PATH, "X-Request-Timeout: 0.3") as caller:
        await caller.ask()
        monkeypatch.setattr(Inference, "infer", patient)
        status, _, body = await caller.ask()

    assert (status, json.loads(body)["code"]) == (504, "deadline_exceeded")


async def test_an_engine_that_is_away_is_said(app: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> list[Any]:
        raise Unavailable("the model's engine is away", retry_after=1)

    async with Caller(app, "", PATH, "X-Of: away") as caller:
        await caller.ask()
        monkeypatch.setattr(Inference, "infer", away)
        status, headers, body = await caller.ask()

    assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "1", "unavailable")


async def test_a_gateway_that_stops_answers_and_closes(tmp_path: Path) -> None:
    async with serving(tmp_path, AIMASS_GATEWAY_DRAIN_ACCEPT_SECONDS="0.5") as app:
        await app.serve("late", logistic(4, 1))
        async with Caller(app) as caller:
            assert [(await caller.ask())[0] for _ in range(2)] == [200, 200]
            app.house.runtime.draining = True
            status, headers, _ = await caller.ask()
            assert (status, headers["connection"]) == (200, "close")
            assert await asyncio.wait_for(caller.reader.read(), 5) == b""


async def test_the_oldest_heads_are_forgotten(
    app: Serving, full: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "_MOST", 2)
    for name in ("a", "b", "c", "d", "d", "c", "a"):
        async with Caller(app, "", PATH, f"X-Of: oldest {name}") as caller:
            assert (await caller.ask())[0] == 200

    assert full[PATH] == 5


async def test_a_signed_head_is_read_in_full_each_time_and_taken_once(app: Serving, full: Counter[str]) -> None:
    app.house.age()
    async with app.client() as admin:
        wanted = {"signing": {"policy": "SIGNATURE_POLICY_OPTIONAL"}}
        key = (await admin.post("/v1/api-keys", json=wanted)).json()
    headers = {"host": "localhost"}
    made = Signer.of(key["signing_secret"]).headers("POST", "localhost", PATH, "", headers, BODY)
    async with Caller(app, key["secret"], PATH, *(f"{name}: {value}" for name, value in made.items())) as caller:
        assert [(await caller.ask())[0] for _ in range(3)] == [200, 409, 409]

    assert full[PATH] == 3
