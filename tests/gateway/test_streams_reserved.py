"""Streams of rows at the doors: reserved before they begin, ended when their reader leaves, never past a filter."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from grpc import aio

from aimass.v1.exports_pb2 import StreamVersionRequest
from aimass.v1.exports_pb2_grpc import ExportsStub
from services.gateway.calls import Calls
from services.kit.errors import Disconnected
from tests.gateway.conftest import Gateway
from tests.gateway.serving import DOORS, Serving
from tests.gateway.test_leaving import asked, logged
from tests.gateway.test_roles import ask
from tests.support.house import house, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXPORTS, PATH = "aimass.v1.Exports", "/v1/data-sets/{}/versions/1:stream"
CPU = {"subject": "project:default", "meter": "METER_CPU_MILLISECONDS", "period": "PERIOD_MONTH", "amount": 150_000}


async def limited(gateway: Gateway, key: str) -> None:
    made = await ask(gateway, key, "POST", "/v1/quotas", {"quota": "cpu"} | CPU)
    assert made.status_code == 200, made.text


async def quota(gateway: Gateway, key: str) -> dict[str, Any]:
    found: dict[str, Any] = (await ask(gateway, key, "GET", "/v1/quotas/cpu")).json()
    return found


async def test_what_a_stream_may_use_is_reserved_and_what_never_began_is_given_back(gateway: Gateway) -> None:
    key = await gateway.tenant("streaming")
    await limited(gateway, key)
    missing = await ask(gateway, key, "GET", PATH.format("missing"))
    given_back = await quota(gateway, key)
    first = await ask(gateway, key, "GET", PATH.format("flights"), x_request_id="reserved-1")
    held = await quota(gateway, key)
    second = await ask(gateway, key, "GET", PATH.format("flights"))
    small = await ask(gateway, key, "GET", PATH.format("flights") + "?cpu_seconds=30")

    assert (missing.status_code, given_back["reserved"]) == (404, "0")
    assert (first.status_code, held["reserved"]) == (200, "120000")  # until its end is heard of
    assert (second.status_code, second.json()["code"]) == (429, "quota_exceeded")
    assert small.status_code == 200
    (call,) = [seen for seen in gateway.services[EXPORTS].seen if seen.request_id == "reserved-1"]
    assert call.metadata["reservation"]


async def test_over_grpc_it_is_the_same(gateway: Gateway) -> None:
    key = await gateway.tenant("streaming-grpc")
    await limited(gateway, key)
    said = (("authorization", f"Bearer {key}"),)
    async with aio.insecure_channel(gateway.doors["grpc"]) as channel:
        stub = ExportsStub(channel)
        found = [part.data async for part in stub.StreamVersion(StreamVersionRequest(data_set="a"), metadata=said)]
        with pytest.raises(aio.AioRpcError, match="quota cpu"):
            async for _ in stub.StreamVersion(StreamVersionRequest(data_set="a"), metadata=said):
                pass

    assert b"".join(found) == b"first second third"


async def test_a_reader_who_leaves_before_the_first_piece_ends_the_work(gateway: Gateway) -> None:
    echo = gateway.services[EXPORTS]
    async with asked(gateway, "rows-1", PATH.format("silent")):
        await until(lambda: "rows-1" in echo.waiting)

    await until(lambda: "rows-1" in echo.given_up)
    assert (await until(lambda: logged(gateway, "rows-1")))["status"] == 499


async def test_a_reader_who_leaves_in_the_middle_ends_the_work(gateway: Gateway) -> None:
    echo = gateway.services[EXPORTS]
    async with asked(gateway, "rows-2", PATH.format("patient")) as reader:
        await asyncio.wait_for(reader.readuntil(b"first "), 10)
        await until(lambda: "rows-2" in echo.waiting)

    await until(lambda: "rows-2" in echo.given_up)


async def test_rows_that_a_filter_would_have_to_read_are_refused(gateway: Gateway) -> None:
    key = await gateway.tenant("streaming-filtered")
    rules = [{"detector": "email", "action": "PRIVACY_ACTION_MASK"}]
    body = {"privacy_filter": "mine", "rules": rules, "methods": ["*"], "answers": True}
    await ask(gateway, key, "POST", "/v1/privacy-filters", body)

    async def refused() -> Any:
        answer = await ask(gateway, key, "GET", PATH.format("flights"))
        return answer.status_code == 409 and answer.json()

    assert "privacy filter" in (await until(refused))["detail"]


class Losing:
    """The way to a service that loses the first stream before anything came; what streams carried."""

    def __init__(self) -> None:
        self.carried: list[dict[str, str]] = []

    async def __call__(self, sent: bytes, timeout: float, metadata: Any) -> AsyncIterator[bytes]:
        self.carried.append(dict(metadata))
        if len(self.carried) == 1:
            raise Disconnected("data is unavailable")
        yield HttpBody(data=b"rows").SerializeToString()


async def test_a_stream_that_is_begun_again_carries_a_reservation_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing = Losing()
    monkeypatch.setattr(Calls, "_stub", lambda *asked: losing)
    async with house(tmp_path, "gateway", "data", AIMASS_DISK_PERCENT="100", **DOORS) as running:
        answer = await Serving(running).get(PATH.format("raw"))

    assert (answer.status_code, answer.content) == (200, b"rows")
    first, second = losing.carried
    assert second["x-attempt"] == "2"
    assert first["reservation"] != second["reservation"]
