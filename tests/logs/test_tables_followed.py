"""Predictions that are kept together are records of their own for whoever follows, asks or has a filter."""

import asyncio
import shutil
from typing import Any

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import logs_pb2, monitors_pb2, privacy_pb2, subscriptions_pb2
from aimass.v1.logs_pb2_grpc import LogsStub
from aimass.v1.monitors_pb2_grpc import MonitorsStub
from aimass.v1.subscriptions_pb2_grpc import SubscriptionsStub
from services.kit.bus import Event
from services.kit.telemetry import Record
from services.logs.tables import Table
from tests.kit.test_telemetry_columns import prediction
from tests.logs.conftest import ACME, Sink, found, tell
from tests.support.house import House, until
from tests.support.kept import frames


def alike(count: int, **fields: Any) -> list[Record]:
    """Predictions of one moment, each a millisecond slower than the one before."""
    return [prediction(duration_ms=float(number), **fields) for number in range(count)]


async def predictions(centre: House) -> list[object]:
    """What the segments hold of predictions."""
    home = centre.runtime.home  # a copy is read: who opens files cuts off what is being written to them
    copy = shutil.copytree(home / "logs-store" / "records", home / "copy")
    held = [one for _, records in await frames(home, copy) for one in records]
    return [one for one in held if isinstance(one, Table) or one.kind == "prediction"]


async def test_a_subscription_is_told_of_the_one_that_it_asks_for(centre: House, sink: Sink) -> None:
    hook = subscriptions_pb2.Webhook(url=sink.url)
    template = subscriptions_pb2.Template(body="{{record.request_id}}")
    await centre.stub(SubscriptionsStub, "logs").CreateSubscription(
        subscriptions_pb2.CreateSubscriptionRequest(
            subscription="slow", filter="kind:prediction AND duration_ms:>8", webhook=hook, template=template
        )
    )
    records = alike(10)
    await tell(centre, *records)
    await until(lambda: len(sink.arrivals) == 1)

    assert Table in {type(one) for one in await predictions(centre)}
    assert sink.arrivals[0].body.decode() == records[9].attributes["request_id"]


async def test_a_tail_hears_each_that_it_asked_for(centre: House) -> None:
    stream = centre.stub(LogsStub, "logs").TailLogs(logs_pb2.TailLogsRequest(query="kind:prediction duration_ms:<3"))
    heard: list[str] = []

    async def listen() -> None:
        async for record in stream:
            heard.append(record.request_id)
            if len(heard) == 3:
                return

    listening = asyncio.create_task(listen())
    wanted: set[str] = set()
    async with asyncio.timeout(30):
        while not listening.done():  # a tail hears what comes after it was opened
            records = alike(10)
            wanted |= {one.attributes["request_id"] for one in records[:3]}
            await tell(centre, *records)
            await asyncio.wait([listening], timeout=0.3)

    await listening
    assert set(heard) <= wanted
    assert len(set(heard)) == 3


async def test_the_trace_of_a_request_is_its_prediction(centre: House) -> None:
    records = alike(10)
    await tell(centre, *records)
    request_id = records[4].attributes["request_id"]
    (record,) = await found(centre, f"request_id:{request_id}")
    trace = await centre.stub(LogsStub, "logs").GetTrace(logs_pb2.GetTraceRequest(request_id=request_id))

    assert (record.duration_ms, record.span_id) == (4.0, records[4].trace[36:52])
    assert (trace.trace_id, [span.record for span in trace.spans]) == (records[4].trace[3:35], [record.record])


async def test_of_tenants_with_a_filter_each_is_clean_before_it_is_kept(centre: House) -> None:
    wire = privacy_pb2.PrivacyFilter(privacy_filter="mine", streams=["gateway/*"])
    wire.rules.add(detector="email", action=privacy_pb2.PRIVACY_ACTION_MASK)
    changed = events.PrivacyFilterChanged(privacy_filter=wire, generation=1)
    now = centre.runtime.now()
    await centre.runtime.bus.publish([Event.of(changed, ACME, "privacy-filters", "mine", "gateway", now)])
    await found(centre, "kind:event AND attributes.generation:1")
    told = alike(10, principal="eve@example.com")
    await tell(centre, *told)
    records = await found(centre, "kind:prediction", 10)

    assert {one.attributes["principal"] for one in records} == {"[email]"}
    assert [one.request_id for one in records] == [one.attributes["request_id"] for one in reversed(told)]
    assert "eve@" not in str(await predictions(centre))


async def test_live_quality_knows_each(centre: House) -> None:
    records, stub = alike(80), centre.stub(MonitorsStub, "logs")
    await tell(centre, *records)
    happened = [monitors_pb2.Outcome(request_id=one.attributes["request_id"], row=0, value=1.0) for one in records[::7]]
    await stub.RecordOutcomes(monitors_pb2.RecordOutcomesRequest(model="late", outcomes=happened))
    versions: list[monitors_pb2.VersionQuality] = []

    async def measured() -> bool:
        versions[:] = (await stub.GetQuality(monitors_pb2.GetQualityRequest(model="late"))).versions
        return bool(versions)

    await until(measured)
    assert [(one.version, one.predictions, one.with_outcome) for one in versions] == [(3, 80, 12)]
    assert versions[0].mean_score == 0.25
