"""The RPCs of PrivacyFilters, and their events."""

from typing import Any

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import privacy_pb2 as pb
from services.gateway.privacy.domain import PrivacyFilter, PrivacyRule
from services.gateway.privacy.events import filter_to_wire
from services.gateway.privacy.service import PrivacyService
from services.kit.fields import masked
from services.kit.inbox import Delivery
from services.kit.rpc import Call

_LISTS = ("methods", "models", "streams")
_MASK = ("description", *_LISTS, "answers", "rules")


class PrivacyApi:
    """Servicer of aimass.v1.PrivacyFilters."""

    def __init__(self, privacy: PrivacyService) -> None:
        self._privacy = privacy

    async def CreatePrivacyFilter(self, request: pb.CreatePrivacyFilterRequest, call: Call) -> pb.PrivacyFilter:
        now = call.now()
        wanted = PrivacyFilter(
            request.privacy_filter,
            call.scope.tenant,
            request.description,
            _patterns(request, "methods"),
            _patterns(request, "models"),
            _patterns(request, "streams"),
            request.answers,
            _rules(request),
            now,
            now,
        )
        return filter_to_wire(await self._privacy.create(call.principal, wanted, call.once(filter_to_wire)))

    async def GetPrivacyFilter(self, request: pb.GetPrivacyFilterRequest, call: Call) -> pb.PrivacyFilter:
        return filter_to_wire(await self._privacy.get(call.principal, request.privacy_filter))

    async def ListPrivacyFilters(
        self, request: pb.ListPrivacyFiltersRequest, call: Call
    ) -> pb.ListPrivacyFiltersResponse:
        page = await self._privacy.list(call.principal, request.page_size, request.page_token, request.show_deleted)
        found = map(filter_to_wire, page.items)
        return pb.ListPrivacyFiltersResponse(privacy_filters=found, next_page_token=page.next_token)

    async def UpdatePrivacyFilter(self, request: pb.UpdatePrivacyFilterRequest, call: Call) -> pb.PrivacyFilter:
        change = _change(request)
        return filter_to_wire(await self._privacy.update(call.principal, request.privacy_filter, change, call.etag))

    async def DeletePrivacyFilter(self, request: pb.DeletePrivacyFilterRequest, call: Call) -> pb.PrivacyFilter:
        return filter_to_wire(await self._privacy.delete(call.principal, request.privacy_filter, call.etag))

    async def UndeletePrivacyFilter(self, request: pb.UndeletePrivacyFilterRequest, call: Call) -> pb.PrivacyFilter:
        return filter_to_wire(await self._privacy.undelete(call.principal, request.privacy_filter))

    async def changed(self, message: events.PrivacyFilterChanged, delivery: Delivery) -> None:
        """Another gateway, or this one, changed a filter."""
        await self._privacy.following.reload()


def _patterns(request: Any, field: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(getattr(request, field)))


def _rules(request: Any) -> tuple[PrivacyRule, ...]:
    return tuple(PrivacyRule(rule.detector, rule.action, rule.pattern) for rule in request.rules)


def _change(request: pb.UpdatePrivacyFilterRequest) -> dict[str, Any]:
    fields = masked(request, _MASK)
    found: dict[str, Any] = {field: _patterns(request, field) for field in _LISTS if field in fields}
    found |= {field: getattr(request, field) for field in ("description", "answers") if field in fields}
    return found | ({"rules": _rules(request)} if "rules" in fields else {})
