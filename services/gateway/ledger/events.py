"""Events and messages of quotas, prices and usage."""

from collections.abc import Mapping
from datetime import datetime

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import quotas_pb2 as pb
from services.gateway.ledger import domain
from services.gateway.ledger.domain import Amounts, Balance, Entry, Meter, Period, PriceList, Quota
from services.kit.auth import SYSTEM, Scope
from services.kit.bus import Event
from services.kit.timestamps import to_wire

_SOURCE = "gateway"
METERS: Mapping[Meter, pb.Meter.ValueType] = {
    Meter.REQUESTS: pb.METER_REQUESTS,
    Meter.ROWS: pb.METER_ROWS,
    Meter.CPU: pb.METER_CPU_MILLISECONDS,
    Meter.MONEY: pb.METER_MONEY_MICROS,
    Meter.TOKENS: pb.METER_TOKENS,
    Meter.STORAGE: pb.METER_STORAGE_MIB_HOURS,
}
PERIODS: Mapping[Period, pb.Period.ValueType] = {
    Period.TOTAL: pb.PERIOD_TOTAL,
    Period.DAY: pb.PERIOD_DAY,
    Period.MONTH: pb.PERIOD_MONTH,
}


def quota_to_wire(quota: Quota, balance: Balance | None = None) -> pb.Quota:
    """A quota as callers see it, with what is spent of it; listeners see it without."""
    found = pb.Quota(
        quota=quota.quota,
        tenant=quota.tenant,
        subject=quota.subject,
        meter=METERS[quota.meter],
        period=PERIODS[quota.period],
        amount=quota.amount,
        etag=str(quota.generation),
        create_time=to_wire(quota.create_time),
        update_time=to_wire(quota.update_time),
        delete_time=to_wire(quota.delete_time),
    )
    if balance:
        found.spent, found.reserved = balance.spent, balance.reserved
        if end := domain.end(quota.period, balance.start):
            found.period_start.FromDatetime(balance.start)
            found.period_end.FromDatetime(end)
    return found


def amounts_to_wire(amounts: Amounts) -> pb.Amounts:
    """An amount of each meter, for callers and listeners."""
    return pb.Amounts(**amounts._asdict())


def prices_to_wire(found: PriceList) -> pb.PriceList:
    """A list of prices as callers and listeners see it."""
    prices = [pb.Price(meter=METERS[p.meter], micros=p.micros, per=p.per, kind=p.kind) for p in found.prices]
    times = {"valid_from": to_wire(found.valid_from), "create_time": to_wire(found.create_time)}
    return pb.PriceList(version=found.version, currency=found.currency, prices=prices, **times)


def quota_changed(quota: Quota, now: datetime) -> Event:
    """A quota was set, changed, deleted or undeleted."""
    message = events.QuotaChanged(quota=quota_to_wire(quota), generation=quota.generation)
    return Event.of(message, Scope(quota.tenant), "quotas", quota.quota, _SOURCE, now)


def usage_settled(entry: Entry) -> Event:
    """An entry of the ledger was settled."""
    assert entry.settle_time
    line = pb.LedgerEntry(
        entry=entry.entry,
        tenant=entry.tenant,
        project=entry.project,
        principal=entry.principal,
        kind=entry.kind,
        model=entry.model,
        reference=entry.reference,
        used=amounts_to_wire(entry.used),
        estimated=entry.estimated,
        price_list=entry.prices,
        create_time=to_wire(entry.create_time),
        settle_time=to_wire(entry.settle_time),
    )
    message = events.UsageSettled(entry=line, generation=1)
    scope = Scope(entry.tenant, entry.project)
    return Event.of(message, scope, "usage", entry.entry, _SOURCE, entry.settle_time)


def prices_created(found: PriceList) -> Event:
    """There is another list of prices."""
    message = events.PriceListCreated(price_list=prices_to_wire(found), generation=found.version)
    return Event.of(message, Scope(SYSTEM), "price-lists", str(found.version), _SOURCE, found.create_time)
