import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aimass.v1 import logs_pb2 as pb
from aimass.v1 import registry_events_pb2, subscriptions_pb2
from aimass.v1.logs_pb2_grpc import LogsStub
from aimass.v1.subscriptions_pb2_grpc import SubscriptionsStub
from services.kit import telemetry
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.errors import Code
from services.kit.telemetry import Record as Told
from tests.logs.conftest import ACME, found, line, logs, search, tell
from tests.support.house import House, until
from tests.support.kept import frames
from tests.support.refused import code_of


async def count(running: House, **asked: Any) -> pb.CountLogsResponse:
    answer: pb.CountLogsResponse = await running.stub(LogsStub, "logs").CountLogs(pb.CountLogsRequest(**asked))
    return answer


async def test_what_a_service_says_is_found_within_two_seconds(centre: House) -> None:
    async with asyncio.timeout(2):
        await tell(centre, line("model late is slow", request_id="r-1", rows=7))
        (record,) = await found(centre, '"late is" AND attributes.rows:>6')

    assert (record.kind, record.text, record.request_id) == ("log", "model late is slow", "r-1")
    assert record.attributes["rows"] == "7"
    assert record.HasField("time")


async def test_events_are_found_by_their_type(centre: House) -> None:
    changed = registry_events_pb2.ReleaseChanged(generation=1)
    changed.release.model = "late"
    await centre.publish(changed, "models", "late", event_id="0190-event")
    await centre.publish(changed, "models", "late", event_id="0190-event")

    (record,) = await found(centre, "kind:event AND name:ReleaseChanged AND model:late")
    assert record.record == "0190-event"


async def test_another_tenant_sees_nothing_of_it(centre: House) -> None:
    await tell(centre, line("mine", request_id="r-1"), line("his", tenant="rival", request_id="r-1"))
    await found(centre, "his", tenant="rival")

    assert [record.text for record in await search(centre, "kind:log AND (mine OR his OR NOT xyz)")] == ["mine"]
    assert [record.text for record in await search(centre, "kind:log", "rival")] == ["his"]


async def test_pages_are_newest_first_and_complete(centre: House) -> None:
    await tell(centre, *(line(f"number n{number}") for number in range(25)))
    await found(centre, "number", 25)
    stub, token, texts = centre.stub(LogsStub, "logs"), "", list[str]()
    while True:
        page = await stub.SearchLogs(pb.SearchLogsRequest(query="number", page_size=10, page_token=token))
        texts += [record.text for record in page.records]
        await tell(centre, line("number of a later one"))
        if not (token := page.next_page_token):
            break

    assert texts == [f"number n{number}" for number in reversed(range(25))]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"query": "(a"}, Code.QUERY_INVALID),
        ({"query": "colour:red"}, Code.QUERY_INVALID),
        ({"query": " ".join(["a"] * 200)}, Code.QUERY_TOO_COSTLY),
        ({"query": "x" * 5000}, Code.INVALID_VALUE),
        ({"page_size": -1}, Code.INVALID_VALUE),
        ({"page_token": "nonsense"}, Code.INVALID_VALUE),
        ({"since": Timestamp(seconds=10), "until": Timestamp(seconds=5)}, Code.INVALID_VALUE),
    ],
)
async def test_a_wrong_question_is_refused(centre: House, asked: dict[str, Any], code: Code) -> None:
    assert await code_of(centre.stub(LogsStub, "logs").SearchLogs(pb.SearchLogsRequest(**asked))) is code


async def test_records_are_counted(centre: House) -> None:
    await tell(centre, *(line("x", status=str(number % 2), duration_ms=float(number)) for number in range(10)))
    await found(centre, "x", 10)

    split = await count(centre, query="x", split_by="status", step_seconds=3600)
    assert split.total == 10
    assert {bucket.value for bucket in split.buckets} == {"0", "1"}
    assert sum(bucket.count for bucket in (await count(centre, query="x")).buckets) == 10
    assert (await count(centre, query="x", until=Timestamp(seconds=5))).total == 0
    for wrong in ({"split_by": "text"}, {"step_seconds": -1}):
        assert await code_of(count(centre, **wrong)) is Code.INVALID_VALUE


async def test_a_tail_hears_what_comes_and_only_what_it_asked_for(centre: House) -> None:
    stream = centre.stub(LogsStub, "logs").TailLogs(pb.TailLogsRequest(query="wanted"))
    texts: list[str] = []

    async def listen() -> None:
        async for record in stream:
            texts.append(record.text)
            if len(texts) == 2:
                return

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.1)
    await tell(centre, line("wanted 1"), line("other"), line("wanted his", tenant="rival"), line("wanted 2"))
    async with asyncio.timeout(5):
        await listening

    assert texts == ["wanted 1", "wanted 2"]
    wrong = centre.stub(LogsStub, "logs").TailLogs(pb.TailLogsRequest(query="("))
    assert await code_of(anext(aiter(wrong))) is Code.QUERY_INVALID


async def test_a_trace_is_the_spans_of_a_request(centre: House) -> None:
    asked = subscriptions_pb2.ListSubscriptionsRequest()
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    stub = centre.stub(SubscriptionsStub, "logs", x_request_id="r-77", traceparent=parent)
    await stub.ListSubscriptions(asked)
    await stub.ListSubscriptions(asked)
    await found(centre, "kind:span AND request_id:r-77", 2)

    trace = await centre.stub(LogsStub, "logs").GetTrace(pb.GetTraceRequest(request_id="r-77"))
    assert trace.trace_id == "a" * 32
    assert [span.name for span in trace.spans] == ["aimass.v1.Subscriptions/ListSubscriptions"] * 2
    assert trace.spans[0].time.ToNanoseconds() <= trace.spans[1].time.ToNanoseconds()
    assert trace.spans[0].duration_ms > 0
    rival = centre.stub(LogsStub, "logs", tenant="rival")
    assert await code_of(rival.GetTrace(pb.GetTraceRequest(request_id="r-77"))) is Code.NOT_FOUND


async def test_what_cannot_be_read_goes_to_the_dead_letters_and_blocks_nothing(centre: House) -> None:
    poison = Event(
        "aimass.data.v1", "k", b"\xff", {"ce_id": "bad", "ce_type": "aimass.v1.SourceChanged", "tenant": "acme"}
    )
    await centre.runtime.bus.publish([poison])
    await tell(centre, line("after it"))
    await found(centre, "after")

    dead = await (await centre.runtime.bus.reader(["aimass.data.v1.dead"], "test")).poll(10)
    assert [event.id for event in dead] == ["bad"]


async def test_a_lost_index_is_made_again_and_damage_is_not_served(tmp_path: Path) -> None:
    async with logs(tmp_path) as first:
        for number in range(3):
            await tell(first, line(f"number n{number}"))
            await found(first, f"n{number}")
    shutil.rmtree(tmp_path / "logs-store" / "index")
    (segment,) = (tmp_path / "logs-store" / "records").glob("*.seg")
    data = bytearray(segment.read_bytes())
    (broken,) = [frame for frame, records in await frames(tmp_path) if "n1" in str(records)]
    data[broken.at.offset + 40] ^= 1
    segment.write_bytes(data)

    async with logs(tmp_path) as again:
        await found(again, "number", 2)
        assert {record.text for record in await search(again, "number")} == {"number n0", "number n2"}
    assert len(list((tmp_path / "logs-store" / "records" / "quarantine").iterdir())) == 1


_NUMBERED = """
import asyncio, sys
from pathlib import Path
from services.kit.telemetry import Record
from tests.logs.conftest import logs, line
async def main():
    begin, end = int(sys.argv[2]), int(sys.argv[3])
    async with logs(Path(sys.argv[1])) as running:
        for start in range(begin, end, 500):
            for number in range(start, start + 500):
                running.runtime.telemetry.record(line(f"number n{number}"))
            await running.runtime.telemetry.flush()
        print("told", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_twenty_thousand_lines_over_two_kills_none_missing_none_twice(tmp_path: Path) -> None:
    """R19 at a small dose: what the bus confirmed is found once, wherever the log centre was killed."""
    environment = {**os.environ, "PYTHONPATH": f"{os.getcwd()}:{os.getcwd()}/sdk"}
    for begin in (0, 10_000):
        command = [sys.executable, "-c", _NUMBERED, str(tmp_path), str(begin), str(begin + 10_000)]
        teller = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
        assert teller.stdout
        assert await teller.stdout.readline() == b"told\n"
        teller.send_signal(signal.SIGKILL)
        await teller.communicate()

    async with logs(tmp_path) as again:
        await until(lambda: _total(again, 20_000), 60)
        stub, token, texts = again.stub(LogsStub, "logs"), "", list[str]()
        while True:
            page = await stub.SearchLogs(pb.SearchLogsRequest(query="number", page_size=1000, page_token=token))
            texts += [record.text for record in page.records]
            if not (token := page.next_page_token):
                break

    assert len(texts) == 20_000
    assert set(texts) == {f"number n{number}" for number in range(20_000)}


async def _total(running: House, wanted: int) -> bool:
    return (await count(running, query="number", step_seconds=86_400)).total >= wanted


async def test_a_permission_is_needed(centre: House) -> None:
    stub = centre.stub(LogsStub, "logs", "logs.tail")

    assert await code_of(stub.SearchLogs(pb.SearchLogsRequest())) is Code.FORBIDDEN
    assert ACME.tenant == "acme"


async def test_a_prediction_is_a_span_unless_its_call_left_one(centre: House) -> None:
    trace, call = "e" * 32, "f" * 16
    alone = Told("prediction", "late", "", Scope("acme"), {"request_id": "r-88", "model": "late", "version": 1})
    alone.trace = f"00-{trace}-{'1' * 16}-01"
    within = Told("prediction", "late", "", Scope("acme"), {"request_id": "r-89", "model": "late", "version": 1})
    with telemetry.span("ModelInfer", {"x-request-id": "r-89", "traceparent": f"00-{trace}-{call}-01"}, tenant="acme"):
        within.trace = telemetry.traceparent()
    await tell(centre, alone, within)
    await found(centre, "request_id:r-88 OR request_id:r-89", 3)

    spans = (await centre.stub(LogsStub, "logs").GetTrace(pb.GetTraceRequest(request_id="r-88"))).spans
    assert sorted((span.kind, span.request_id) for span in spans) == [("prediction", "r-88"), ("span", "r-89")]
