"""The RPCs of Subscriptions."""

from aimass.v1 import subscriptions_pb2 as pb
from services.kit.errors import InvalidValue, Violation
from services.kit.rpc import Call
from services.kit.timestamps import to_wire as at
from services.logs.subscriptions.domain import Created, Delivery, Subscription
from services.logs.subscriptions.service import Change, Subscriptions
from services.logs.wire import to_wire as record_to_wire

_MASK = ("description", "filter", "webhook", "webhook.url", "template")


class SubscriptionsApi:
    """Webhooks for matching records."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions

    async def CreateSubscription(self, request: pb.CreateSubscriptionRequest, call: Call) -> pb.CreatedSubscription:
        wanted = Change(request.description, request.filter, request.webhook.url, _template(request))
        made = await self._subscriptions.create(call.scope, request.subscription, wanted, call.once(created_to_wire))
        return created_to_wire(made)

    async def GetSubscription(self, request: pb.GetSubscriptionRequest, call: Call) -> pb.Subscription:
        return to_wire(await self._subscriptions.get(call.scope, request.subscription))

    async def ListSubscriptions(self, request: pb.ListSubscriptionsRequest, call: Call) -> pb.ListSubscriptionsResponse:
        size, token, deleted = request.page_size, request.page_token, request.show_deleted
        page = await self._subscriptions.list(call.scope, size, token, deleted)
        return pb.ListSubscriptionsResponse(subscriptions=map(to_wire, page.items), next_page_token=page.next_token)

    async def UpdateSubscription(self, request: pb.UpdateSubscriptionRequest, call: Call) -> pb.Subscription:
        changed = await self._subscriptions.update(call.scope, request.subscription, call.etag, _change(request))
        return to_wire(changed)

    async def DeleteSubscription(self, request: pb.DeleteSubscriptionRequest, call: Call) -> pb.Subscription:
        return to_wire(await self._subscriptions.delete(call.scope, request.subscription, call.etag))

    async def UndeleteSubscription(self, request: pb.UndeleteSubscriptionRequest, call: Call) -> pb.Subscription:
        return to_wire(await self._subscriptions.undelete(call.scope, request.subscription))

    async def PreviewSubscription(
        self, request: pb.PreviewSubscriptionRequest, call: Call
    ) -> pb.PreviewSubscriptionResponse:
        found = await self._subscriptions.preview(call.scope, request.filter, *_template(request))
        examples = map(record_to_wire, found.examples)
        return pb.PreviewSubscriptionResponse(
            matched=found.matched, examples=examples, subject=found.subject, body=found.body
        )

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, call: Call) -> pb.ListDeliveriesResponse:
        size, token = request.page_size, request.page_token
        page = await self._subscriptions.deliveries(call.scope, request.subscription, size, token)
        return pb.ListDeliveriesResponse(deliveries=map(delivery_to_wire, page.items), next_page_token=page.next_token)

    async def RetryDelivery(self, request: pb.RetryDeliveryRequest, call: Call) -> pb.Delivery:
        found = await self._subscriptions.retry(call.scope, request.subscription, request.delivery)
        return delivery_to_wire(found)


def _template(
    request: pb.CreateSubscriptionRequest | pb.UpdateSubscriptionRequest | pb.PreviewSubscriptionRequest,
) -> tuple[str, str]:
    return request.template.subject, request.template.body


def _change(request: pb.UpdateSubscriptionRequest) -> Change:
    """The fields in the mask; without one, those that are set."""
    asked = set(request.update_mask.paths)
    if unknown := sorted(asked - set(_MASK)):
        raise InvalidValue(
            f"{unknown[0]} cannot be changed", [Violation("/update_mask", f"must name one of {', '.join(_MASK)}")]
        )
    fields = asked or {field.name for field, _ in request.ListFields()}
    return Change(
        request.description if "description" in fields else None,
        request.filter if "filter" in fields else None,
        request.webhook.url if fields & {"webhook", "webhook.url"} else None,
        _template(request) if "template" in fields else None,
    )


def to_wire(one: Subscription) -> pb.Subscription:
    """A subscription as callers see it, without its secret."""
    return pb.Subscription(
        subscription=one.subscription,
        description=one.description,
        filter=one.filter,
        webhook=pb.Webhook(url=one.url),
        template=pb.Template(subject=one.subject, body=one.body) if one.subject or one.body else None,
        etag=one.etag,
        create_time=at(one.create_time),
        update_time=at(one.update_time),
        delete_time=at(one.delete_time),
    )


def created_to_wire(made: Created) -> pb.CreatedSubscription:
    """A new subscription with its secret."""
    return pb.CreatedSubscription(subscription=to_wire(made.subscription), signing_secret=made.signing_secret)


def delivery_to_wire(one: Delivery) -> pb.Delivery:
    """A delivery as callers see it."""
    return pb.Delivery(
        delivery=one.delivery,
        subscription=one.subscription,
        record=one.record,
        state=pb.DeliveryState.Value(f"DELIVERY_STATE_{one.state.upper()}"),
        attempts=one.attempts,
        response_status=one.response_status,
        error=one.error,
        create_time=at(one.create_time),
        next_attempt_time=at(one.next_attempt_time),
        deliver_time=at(one.deliver_time),
    )
