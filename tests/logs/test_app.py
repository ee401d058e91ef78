"""The log centre as a whole: every RPC guarded, alone in a process, in step with its descriptors."""

from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import logs_pb2, monitors_pb2, registry_events_pb2, subscriptions_pb2
from aimass.v1.logs_pb2_grpc import LogsStub
from aimass.v1.monitors_pb2_grpc import MonitorsStub
from aimass.v1.subscriptions_pb2_grpc import SubscriptionsStub
from services.kit import contract
from services.kit.auth import Principal
from services.kit.config import ConfigError
from services.kit.errors import Code, Failure
from services.kit.running import Process
from tests.logs.conftest import ACME, found, logs
from tests.support.house import House, house

CALLS = [
    (LogsStub, "SearchLogs", logs_pb2.SearchLogsRequest()),
    (LogsStub, "CountLogs", logs_pb2.CountLogsRequest()),
    (LogsStub, "GetTrace", logs_pb2.GetTraceRequest(request_id="r")),
    (SubscriptionsStub, "GetSubscription", subscriptions_pb2.GetSubscriptionRequest(subscription="a")),
    (SubscriptionsStub, "ListSubscriptions", subscriptions_pb2.ListSubscriptionsRequest()),
    (SubscriptionsStub, "UndeleteSubscription", subscriptions_pb2.UndeleteSubscriptionRequest(subscription="a")),
    (SubscriptionsStub, "PreviewSubscription", subscriptions_pb2.PreviewSubscriptionRequest(filter="a")),
    (SubscriptionsStub, "ListDeliveries", subscriptions_pb2.ListDeliveriesRequest(subscription="a")),
    (SubscriptionsStub, "RetryDelivery", subscriptions_pb2.RetryDeliveryRequest(subscription="a", delivery="b")),
    (MonitorsStub, "GetQuality", monitors_pb2.GetQualityRequest(model="a")),
]
MISSING = ("GetTrace", "GetSubscription", "UndeleteSubscription", "ListDeliveries", "RetryDelivery")


@pytest.mark.parametrize(("stub", "name", "request_"), CALLS, ids=[name for _, name, _ in CALLS])
async def test_each_call_needs_its_permission(centre: House, stub: Any, name: str, request_: Any) -> None:
    with pytest.raises(Failure) as caught:
        await getattr(centre.stub(stub, "logs", "models.get"), name)(request_)
    assert caught.value.code is Code.FORBIDDEN

    if name in MISSING:
        with pytest.raises(Failure) as caught:
            await getattr(centre.stub(stub, "logs"), name)(request_)
        assert caught.value.code is Code.NOT_FOUND
    else:
        await getattr(centre.stub(stub, "logs"), name)(request_)


async def test_every_call_that_is_declared_is_there(centre: House) -> None:
    offered = centre.runtime.directory.local["logs"].methods
    declared = {m.path for s in ("Logs", "Subscriptions", "Monitors") for m in contract.methods(f"aimass.v1.{s}")}

    assert declared <= set(offered)


async def test_the_log_centre_hears_a_bus_that_another_process_holds(tmp_path: Path, free_port: int) -> None:
    address = f"127.0.0.1:{free_port}"
    async with (
        house(tmp_path, "inference", AIMASS_BUS_LISTEN=address) as holder,
        logs(tmp_path, AIMASS_BUS_URL=f"grpc://{address}") as centre,
    ):
        changed = registry_events_pb2.ReleaseChanged(generation=1)
        changed.release.model = "late"
        await holder.publish(changed, "models", "late")

        (record,) = await found(centre, "name:ReleaseChanged")
    assert record.model == "late"


async def test_its_own_ingest_leaves_no_spans(centre: House) -> None:
    """What the log centre does for itself would otherwise beget records for ever."""
    await centre.runtime.telemetry.flush()
    await centre.stub(LogsStub, "logs").SearchLogs(logs_pb2.SearchLogsRequest())
    await found(centre, "kind:span AND name:aimass.v1.Logs/SearchLogs")

    principal = Principal(ACME._replace(tenant="system"), "key:test", ("*",))
    stub = LogsStub(centre.runtime.channel("logs"))
    asked = logs_pb2.SearchLogsRequest(query="kind:span")
    own = await stub.SearchLogs(asked, metadata=centre.runtime.metadata("logs", principal))
    assert {record.name for record in own.records} <= {"aimass.v1.Logs/SearchLogs"}


@pytest.mark.parametrize("schedule", ["", "soon", "5,-1", "5;6", "nan", "1e99"])
def test_a_schedule_that_is_none_stops_the_start(tmp_path: Path, schedule: str) -> None:
    with pytest.raises(ConfigError, match="AIMASS_LOGS_WEBHOOK_SCHEDULE"):
        Process(["logs"], {"AIMASS_HOME": str(tmp_path), "AIMASS_LOGS_WEBHOOK_SCHEDULE": schedule})
