"""The RPCs of Quotas, Usage and Prices, and what other gateways say of quotas."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import quotas_pb2 as pb
from services.gateway.ledger.domain import Period, Price, Question, Quota, Standing, Sum
from services.gateway.ledger.events import METERS, PERIODS, amounts_to_wire, prices_to_wire, quota_to_wire
from services.gateway.ledger.service import Ledger
from services.kit.errors import invalid
from services.kit.inbox import Delivery
from services.kit.rpc import Call
from services.kit.timestamps import from_wire, to_wire

T = TypeVar("T")


class QuotasApi:
    """Servicer of aimass.v1.Quotas."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def CreateQuota(self, request: pb.CreateQuotaRequest, call: Call) -> pb.Quota:
        now = call.now()
        meter, period = _named(METERS, request.meter, "/meter"), _named(PERIODS, request.period, "/period")
        wanted = Quota(request.quota, request.tenant, request.subject, meter, period, request.amount, now, now)
        return _standing(await self._ledger.create(call.principal, wanted, call.once(_standing)))

    async def GetQuota(self, request: pb.GetQuotaRequest, call: Call) -> pb.Quota:
        return _standing(await self._ledger.get(call.principal, request.tenant, request.quota))

    async def ListQuotas(self, request: pb.ListQuotasRequest, call: Call) -> pb.ListQuotasResponse:
        page = await self._ledger.list(
            call.principal, request.tenant, request.page_size, request.page_token, request.show_deleted
        )
        return pb.ListQuotasResponse(quotas=map(_standing, page.items), next_page_token=page.next_token)

    async def UpdateQuota(self, request: pb.UpdateQuotaRequest, call: Call) -> pb.Quota:
        resized = await self._ledger.resize(call.principal, request.tenant, request.quota, request.amount, call.etag)
        return _standing(resized)

    async def DeleteQuota(self, request: pb.DeleteQuotaRequest, call: Call) -> pb.Quota:
        return _standing(await self._ledger.delete(call.principal, request.tenant, request.quota, call.etag))

    async def UndeleteQuota(self, request: pb.UndeleteQuotaRequest, call: Call) -> pb.Quota:
        return _standing(await self._ledger.undelete(call.principal, request.tenant, request.quota))

    async def changed(self, message: events.QuotaChanged, delivery: Delivery) -> None:
        """Another gateway, or this one, changed a quota."""
        await self._ledger.following.reload()


class UsageApi:
    """Servicer of aimass.v1.Usage."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def ListUsage(self, request: pb.ListUsageRequest, call: Call) -> pb.ListUsageResponse:
        asked = Question(
            request.tenant,
            principal=request.principal,
            model=request.model,
            kind=request.kind,
            group_by=tuple(dict.fromkeys(request.group_by)),
            period=_named(PERIODS, request.period or pb.PERIOD_TOTAL, "/period"),
            start=from_wire(request.start_time),
            end=from_wire(request.end_time),
        )
        found = await self._ledger.usage(
            call.principal, asked, request.all_projects, request.page_size, request.page_token
        )
        rows = [_row(one, asked.period) for one in found.items]
        return pb.ListUsageResponse(rows=rows, next_page_token=found.next_token)


class PricesApi:
    """Servicer of aimass.v1.Prices."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def CreatePriceList(self, request: pb.CreatePriceListRequest, call: Call) -> pb.PriceList:
        prices = tuple(
            Price(_named(METERS, price.meter, f"/prices/{index}/meter"), price.micros, price.per or 1, price.kind)
            for index, price in enumerate(request.prices)
        )
        valid_from = from_wire(request.valid_from)
        once = call.once(prices_to_wire)
        return prices_to_wire(await self._ledger.add_prices(call.principal, request.currency, valid_from, prices, once))

    async def ListPriceLists(self, request: pb.ListPriceListsRequest, call: Call) -> pb.ListPriceListsResponse:
        page = await self._ledger.prices(request.page_size, request.page_token)
        lists = map(prices_to_wire, page.items)
        return pb.ListPriceListsResponse(price_lists=lists, next_page_token=page.next_token)


def _standing(found: Standing) -> pb.Quota:
    return quota_to_wire(*found)


def _named(of: Mapping[T, int], value: int, pointer: str) -> T:
    """The name of an enum's value. Raises invalid_value for an unknown one."""
    found = next((name for name, number in of.items() if number == value), None)
    if found is None:
        raise invalid(pointer, "must be one of the contract's")
    return found


def _row(found: Sum, period: Period) -> pb.UsageRow:
    begun, project, principal, model, kind = found.key
    at = None
    if period is not Period.TOTAL:
        at = datetime.strptime(begun, "%Y-%m-%d" if period is Period.DAY else "%Y-%m").replace(tzinfo=UTC)
    return pb.UsageRow(
        period_start=to_wire(at),
        project=project,
        principal=principal,
        model=model,
        kind=kind,
        used=amounts_to_wire(found.used),
        estimated=amounts_to_wire(found.estimated),
        entries=found.entries,
    )
