import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from standardwebhooks import Webhook, WebhookVerificationError

from aimass.v1 import registry_events_pb2
from aimass.v1 import subscriptions_pb2 as pb
from aimass.v1.subscriptions_pb2_grpc import SubscriptionsStub
from services.kit.errors import Code
from services.logs.domain import Record
from services.logs.search.domain import Query, matches
from services.logs.subscriptions import service
from services.logs.subscriptions.domain import Message
from tests.logs.conftest import Sink, found, line, logs, tell
from tests.support.house import House, until
from tests.support.refused import code_of

DELIVERED, PENDING = pb.DELIVERY_STATE_DELIVERED, pb.DELIVERY_STATE_PENDING
DEAD, BLOCKED = pb.DELIVERY_STATE_DEAD, pb.DELIVERY_STATE_BLOCKED


def asked(sink: Sink, name: str = "hooks", query: str = "alarm", **more: Any) -> pb.CreateSubscriptionRequest:
    return pb.CreateSubscriptionRequest(subscription=name, filter=query, webhook=pb.Webhook(url=sink.url), **more)


def stub_of(running: House, **metadata: str) -> Any:
    return running.stub(SubscriptionsStub, "logs", **metadata)


async def deliveries(running: House, name: str = "hooks") -> list[pb.Delivery]:
    answer = await stub_of(running).ListDeliveries(pb.ListDeliveriesRequest(subscription=name))
    return list(answer.deliveries)


async def settled(running: House, *states: int, name: str = "hooks") -> list[pb.Delivery]:
    """The deliveries, once they are in these states, newest first."""

    async def are() -> bool:
        return [one.state for one in await deliveries(running, name)] == list(states)

    await until(are)
    return await deliveries(running, name)


async def test_a_promotion_arrives_signed_and_as_the_template_says(centre: House, sink: Sink) -> None:
    template = pb.Template(subject="{{record.model}} → v{{record.version}}", body='{"model": {{record.model | json}}}')
    made = await stub_of(centre).CreateSubscription(
        asked(sink, query="kind:event AND name:ReleaseChanged", template=template)
    )
    changed = registry_events_pb2.ReleaseChanged(generation=1)
    changed.release.model, changed.release.desired.version = "late", 3
    await centre.publish(changed, "models", "late")

    (delivery,) = await settled(centre, DELIVERED)
    (arrival,) = sink.arrivals
    assert made.signing_secret.startswith("whsec_")
    assert Webhook(made.signing_secret).verify(arrival.body, arrival.headers) == {"model": "late"}
    assert arrival.headers["webhook-id"] == delivery.delivery
    assert arrival.headers["content-type"] == "application/json"
    assert arrival.headers["aimass-subject"] == "late %E2%86%92 v3"
    assert (delivery.attempts, delivery.response_status) == (1, 200)
    other = f"whsec_{base64.b64encode(bytes(24)).decode()}"
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(arrival.body, arrival.headers)


async def test_a_repeated_creation_has_one_effect_and_shows_the_same_secret(centre: House, sink: Sink) -> None:
    stub = stub_of(centre, idempotency_key="hooks-1")
    first = await stub.CreateSubscription(asked(sink))
    second = await stub.CreateSubscription(asked(sink))

    assert second == first
    assert await code_of(stub.CreateSubscription(asked(sink, name="other"))) is Code.KEY_REUSED
    assert await code_of(stub_of(centre).CreateSubscription(asked(sink))) is Code.ALREADY_EXISTS


async def test_a_repeat_after_a_restart_shows_the_same_secret(tmp_path: Path, sink: Sink) -> None:
    async with logs(tmp_path) as running:
        first = await stub_of(running, idempotency_key="hooks-1").CreateSubscription(asked(sink))
    async with logs(tmp_path, AIMASS_EGRESS_ALLOW="") as running:  # what a new one may not do, a repeat is told
        assert await stub_of(running, idempotency_key="hooks-1").CreateSubscription(asked(sink)) == first
        assert await code_of(stub_of(running).CreateSubscription(asked(sink, "other"))) is Code.EGRESS_DENIED


async def test_a_key_is_one_callers_own(centre: House, sink: Sink) -> None:
    mine = await stub_of(centre, idempotency_key="hooks-1").CreateSubscription(asked(sink))
    theirs = await stub_of(centre, tenant="rival", idempotency_key="hooks-1").CreateSubscription(asked(sink))

    assert mine.signing_secret != theirs.signing_secret


async def test_without_a_template_the_record_is_sent(centre: House, sink: Sink) -> None:
    await stub_of(centre).CreateSubscription(asked(sink))
    await tell(centre, line("alarm: late", request_id="r-1", rows=7), line("calm"), line("alarm", tenant="rival"))
    await settled(centre, DELIVERED)

    (arrival,) = sink.arrivals
    body = json.loads(arrival.body)
    assert (body["text"], body["request_id"], body["attributes"]["rows"]) == ("alarm: late", "r-1", 7)


async def test_a_receiver_that_fails_is_tried_again_with_the_same_id(centre: House, sink: Sink) -> None:
    sink.statuses = [500, 503]
    await stub_of(centre).CreateSubscription(asked(sink))
    await tell(centre, line("alarm"))

    (delivery,) = await settled(centre, DELIVERED)
    assert (delivery.attempts, len(sink.arrivals)) == (3, 3)
    assert {arrival.headers["webhook-id"] for arrival in sink.arrivals} == {delivery.delivery}


async def test_a_delivery_is_given_up_and_can_be_tried_again(centre: House, sink: Sink) -> None:
    sink.statuses = [500] * 3
    stub = stub_of(centre)
    await stub.CreateSubscription(asked(sink))
    await tell(centre, line("alarm"))
    (dead,) = await settled(centre, DEAD)
    assert (dead.attempts, dead.error) == (3, "the receiver answered 500")

    again = await stub.RetryDelivery(pb.RetryDeliveryRequest(subscription="hooks", delivery=dead.delivery))
    assert again.state == PENDING
    await settled(centre, DELIVERED)
    unknown = pb.RetryDeliveryRequest(subscription="hooks", delivery="none")
    assert await code_of(stub.RetryDelivery(unknown)) is Code.NOT_FOUND
    theirs = pb.RetryDeliveryRequest(subscription="hooks", delivery=dead.delivery)
    assert await code_of(stub_of(centre, tenant="rival").RetryDelivery(theirs)) is Code.NOT_FOUND


async def test_a_receiver_that_is_gone_is_not_asked_again(centre: House, sink: Sink) -> None:
    sink.statuses = [410]
    await stub_of(centre).CreateSubscription(asked(sink))
    await tell(centre, line("alarm"))

    (dead,) = await settled(centre, DEAD)
    assert dead.attempts == 1


async def test_a_slow_receiver_does_not_hold_up_another(centre: House, sink: Sink) -> None:
    slow = Sink(holds=asyncio.Event())
    server = await asyncio.start_server(slow.serve, "127.0.0.1", 0)
    slow.port = server.sockets[0].getsockname()[1]
    await stub_of(centre).CreateSubscription(asked(slow, "slow"))
    await stub_of(centre).CreateSubscription(asked(sink))
    await tell(centre, *(line(f"alarm {number}") for number in range(30)))

    await settled(centre, *[DELIVERED] * 30)
    assert len(slow.arrivals) == 4
    assert slow.holds
    slow.holds.set()
    await settled(centre, *[DELIVERED] * 30, name="slow")
    server.close()


async def test_many_slow_receivers_of_a_tenant_do_not_hold_up_those_of_another(centre: House, sink: Sink) -> None:
    slow = Sink(holds=asyncio.Event())
    server = await asyncio.start_server(slow.serve, "127.0.0.1", 0)
    slow.port = server.sockets[0].getsockname()[1]
    for number in range(20):
        await stub_of(centre, tenant="rival").CreateSubscription(asked(slow, f"slow-{number}"))
    await stub_of(centre).CreateSubscription(asked(sink))
    await tell(centre, *(line(f"alarm {number}", tenant="rival") for number in range(4)))
    await until(lambda: len(slow.arrivals) >= 16)
    await tell(centre, line("alarm"))

    await settled(centre, DELIVERED)
    assert len(slow.arrivals) == 16
    assert slow.holds
    slow.holds.set()
    await until(lambda: len(slow.arrivals) == 80)
    server.close()


async def test_a_bug_in_matching_costs_the_record_that_it_is_met_with(
    centre: House, sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def odd(query: Query, record: Record) -> bool:
        if record.text == "alarm odd":
            raise RuntimeError("nobody has foreseen it")
        return matches(query, record)

    monkeypatch.setattr(service, "matches", odd)
    await stub_of(centre).CreateSubscription(asked(sink))
    await stub_of(centre, tenant="rival").CreateSubscription(asked(sink))
    await tell(centre, line("alarm odd"), line("alarm"), line("alarm of another", tenant="rival"))

    await settled(centre, DELIVERED)
    await until(lambda: len(sink.arrivals) == 2)
    assert {json.loads(one.body)["text"] for one in sink.arrivals} == {"alarm", "alarm of another"}
    assert "the filter 'alarm' of a subscription failed" in caplog.text


async def test_a_message_that_cannot_be_made_is_given_up_and_others_are_sent(
    centre: House, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = service.message_of

    def odd(subject: str, body: str, record: Record) -> Message:
        if record.text == "alarm odd":
            raise RuntimeError("nobody has foreseen it")
        return real(subject, body, record)

    monkeypatch.setattr(service, "message_of", odd)
    await stub_of(centre).CreateSubscription(asked(sink))
    await tell(centre, line("alarm odd"), line("alarm"))

    _, dead = await settled(centre, DELIVERED, DEAD)
    assert dead.error == "the message could not be made"
    again = pb.RetryDeliveryRequest(subscription="hooks", delivery=dead.delivery)
    await stub_of(centre).RetryDelivery(again)
    await settled(centre, DELIVERED, DELIVERED)
    assert json.loads(sink.arrivals[-1].body) == {"record": dead.record}


async def test_a_record_is_told_once_over_restarts_and_what_waits_is_sent(tmp_path: Path, sink: Sink) -> None:
    sink.statuses = [500] * 2
    async with logs(tmp_path, AIMASS_LOGS_WEBHOOK_SCHEDULE="1,1,1") as first:
        await stub_of(first).CreateSubscription(asked(sink))
        await tell(first, line("alarm"))
        await until(lambda: sink.arrivals)
    async with logs(tmp_path, AIMASS_LOGS_WEBHOOK_SCHEDULE="0.1,0.1,0.1") as again:
        await settled(again, DELIVERED)
        await tell(again, line("alarm again"))
        await settled(again, DELIVERED, DELIVERED)

    assert len({arrival.headers["webhook-id"] for arrival in sink.arrivals}) == 2


async def test_an_address_that_is_forbidden_later_blocks(tmp_path: Path, sink: Sink) -> None:
    async with logs(tmp_path) as first:
        await stub_of(first).CreateSubscription(asked(sink))
    async with logs(tmp_path, AIMASS_EGRESS_ALLOW="") as again:
        await tell(again, line("alarm"))
        (blocked,) = await settled(again, BLOCKED)

    assert "may be reached" in blocked.error
    assert sink.arrivals == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"filter": "("}, Code.QUERY_INVALID),
        ({"filter": "a*"}, Code.QUERY_TOO_COSTLY),
        ({"filter": ""}, Code.INVALID_VALUE),
        ({"template": pb.Template(body="{{x}}")}, Code.TEMPLATE_INVALID),
        ({"template": pb.Template(subject="{{record.model | x}}")}, Code.TEMPLATE_INVALID),
        ({"webhook": pb.Webhook(url="https://10.0.0.1/")}, Code.EGRESS_DENIED),
        ({"webhook": pb.Webhook(url="http://example.org/")}, Code.EGRESS_DENIED),
        ({"webhook": pb.Webhook(url="https://")}, Code.INVALID_VALUE),
        ({"subscription": "../x"}, Code.INVALID_NAME),
    ],
)
async def test_a_wrong_subscription_is_refused(centre: House, sink: Sink, change: dict[str, Any], code: Code) -> None:
    request = asked(sink)
    request.MergeFrom(pb.CreateSubscriptionRequest(**{**change, "filter": ""}))
    request.filter = change.get("filter", request.filter)

    assert await code_of(stub_of(centre).CreateSubscription(request)) is code


async def test_a_subscription_is_read_changed_deleted_and_brought_back(centre: House, sink: Sink) -> None:
    stub = stub_of(centre)
    made = (await stub.CreateSubscription(asked(sink, description="first"))).subscription
    assert await stub.GetSubscription(pb.GetSubscriptionRequest(subscription="hooks")) == made
    assert await code_of(stub.CreateSubscription(asked(sink))) is Code.ALREADY_EXISTS

    change = pb.UpdateSubscriptionRequest(
        subscription="hooks", description="second", filter="x", update_mask=FieldMask(paths=["description"])
    )
    assert await code_of(stub.UpdateSubscription(change)) is Code.ETAG_REQUIRED
    assert await code_of(stub_of(centre, if_match='"9"').UpdateSubscription(change)) is Code.ETAG_MISMATCH
    changed = await stub_of(centre, if_match=f'"{made.etag}"').UpdateSubscription(change)
    assert (changed.description, changed.filter, changed.etag) == ("second", "alarm", "2")
    wrong = pb.UpdateSubscriptionRequest(subscription="hooks", update_mask=FieldMask(paths=["etag"]))
    assert await code_of(stub_of(centre, if_match='"2"').UpdateSubscription(wrong)) is Code.INVALID_VALUE

    name = pb.DeleteSubscriptionRequest(subscription="hooks")
    assert await code_of(stub_of(centre, if_match='"1"').DeleteSubscription(name)) is Code.ETAG_MISMATCH
    gone = await stub_of(centre, if_match='"2"').DeleteSubscription(name)
    assert gone.HasField("delete_time")
    assert await code_of(stub.GetSubscription(pb.GetSubscriptionRequest(subscription="hooks"))) is Code.NOT_FOUND
    assert await code_of(stub.CreateSubscription(asked(sink))) is Code.ALREADY_EXISTS
    await tell(centre, line("alarm while it was away"))
    await found(centre, "alarm")

    back = await stub.UndeleteSubscription(pb.UndeleteSubscriptionRequest(subscription="hooks"))
    assert (back.etag, back.HasField("delete_time")) == ("4", False)
    await tell(centre, line("alarm now"))
    await settled(centre, DELIVERED)
    assert [json.loads(arrival.body)["text"] for arrival in sink.arrivals] == ["alarm now"]


async def test_a_new_filter_does_not_look_back(centre: House, sink: Sink) -> None:
    await tell(centre, line("fire"))
    await found(centre, "fire")
    made = (await stub_of(centre).CreateSubscription(asked(sink))).subscription
    change = pb.UpdateSubscriptionRequest(subscription="hooks", filter="fire OR alarm")
    await stub_of(centre, if_match=made.etag).UpdateSubscription(change)
    await tell(centre, line("fire again"))

    await settled(centre, DELIVERED)


async def test_subscriptions_are_listed_by_name_in_pages(centre: House, sink: Sink) -> None:
    stub = stub_of(centre)
    for name in ("c", "a", "b"):
        await stub.CreateSubscription(asked(sink, name))
    await stub_of(centre, if_match='"1"').DeleteSubscription(pb.DeleteSubscriptionRequest(subscription="b"))

    first = await stub.ListSubscriptions(pb.ListSubscriptionsRequest(page_size=1))
    rest = await stub.ListSubscriptions(pb.ListSubscriptionsRequest(page_size=9, page_token=first.next_page_token))
    everything = await stub.ListSubscriptions(pb.ListSubscriptionsRequest(show_deleted=True))
    theirs = await stub_of(centre, tenant="rival").ListSubscriptions(pb.ListSubscriptionsRequest())

    assert [one.subscription for page in (first, rest) for one in page.subscriptions] == ["a", "c"]
    assert [one.subscription for one in everything.subscriptions] == ["a", "b", "c"]
    assert list(theirs.subscriptions) == []


async def test_another_tenant_does_not_find_it(centre: House, sink: Sink) -> None:
    await stub_of(centre).CreateSubscription(asked(sink))
    theirs = stub_of(centre, tenant="rival", if_match='"1"')
    calls = [
        theirs.GetSubscription(pb.GetSubscriptionRequest(subscription="hooks")),
        theirs.UpdateSubscription(pb.UpdateSubscriptionRequest(subscription="hooks", description="x")),
        theirs.DeleteSubscription(pb.DeleteSubscriptionRequest(subscription="hooks")),
        theirs.UndeleteSubscription(pb.UndeleteSubscriptionRequest(subscription="hooks")),
        theirs.ListDeliveries(pb.ListDeliveriesRequest(subscription="hooks")),
    ]

    assert [await code_of(call) for call in calls] == [Code.NOT_FOUND] * 5


async def test_a_preview_says_what_would_have_come(centre: House) -> None:
    await tell(centre, *(line(f"alarm {number}") for number in range(7)), line("calm"))
    await found(centre, "alarm", 7)
    stub = stub_of(centre)
    template = pb.Template(subject="S {{record.severity}}", body="B {{record.text | upper}}")
    seen = await stub.PreviewSubscription(pb.PreviewSubscriptionRequest(filter="alarm", template=template))
    nothing = await stub.PreviewSubscription(pb.PreviewSubscriptionRequest(filter="storm", template=template))

    assert (seen.matched, len(seen.examples)) == (7, 5)
    assert (seen.subject, seen.body) == ("S INFO", "B ALARM 6")
    assert (nothing.matched, nothing.subject) == (0, "")
    wrong = pb.PreviewSubscriptionRequest(filter="alarm", template=pb.Template(body="{{x}}"))
    assert await code_of(stub.PreviewSubscription(wrong)) is Code.TEMPLATE_INVALID


async def test_the_secret_is_nowhere_in_the_files(tmp_path: Path, sink: Sink) -> None:
    async with logs(tmp_path) as running:
        made = await stub_of(running, idempotency_key="hooks-1").CreateSubscription(asked(sink))
        secret = made.signing_secret.removeprefix("whsec_")
        await tell(running, line("alarm"))
        await settled(running, DELIVERED)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    assert secret.encode() not in kept
    assert base64.b64decode(secret) not in kept
