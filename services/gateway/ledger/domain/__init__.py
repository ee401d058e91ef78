"""Quotas, what was used of them, and what it costs. All amounts are whole numbers in the unit of their meter."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from services.kit.errors import Code, Failure, NotFound, invalid, match_etag
from services.kit.resources import changed

TENANT = "tenant"
SERVING, TRAINING = "serving", "training"
STORAGE = "storage"
KINDS = (
    SERVING,
    TRAINING,
    "extraction",
    "fitting",
    "pipeline",
    "cleaning",
    "series",
    "query",
    "discovery",
    STORAGE,
)  # of use
GROUPS = ("project", "principal", "model", "kind")  # what sums may be kept apart by
MOST = 10**15  # of any meter
_SUBJECT = re.compile(r"(tenant|project:[a-z][a-z0-9_-]{0,62}|key:[a-z0-9]{8}|user:[^\x00-\x1f]{1,200})\Z")
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Meter(StrEnum):
    """What is counted, with its unit."""

    REQUESTS = "requests"
    ROWS = "rows"
    CPU = "cpu_milliseconds"
    MONEY = "money_micros"
    TOKENS = "tokens"
    STORAGE = "storage_mib_hours"


class Period(StrEnum):
    """How long a quota lasts: for ever, or a calendar day or month of UTC."""

    TOTAL = "total"
    DAY = "day"
    MONTH = "month"


class State(StrEnum):
    """Where an entry of the ledger stands."""

    RESERVED = "reserved"
    SETTLED = "settled"
    RELEASED = "released"


class Amounts(NamedTuple):
    """How much of each meter."""

    requests: int = 0
    rows: int = 0
    cpu_milliseconds: int = 0
    money_micros: int = 0
    tokens: int = 0
    storage_mib_hours: int = 0

    def of(self, meter: Meter) -> int:
        return int(getattr(self, meter.value))


@dataclass(frozen=True)
class Quota:
    """A quota. `subject` is `tenant`, `project:<name>`, `key:<prefix>` or `user:<name>`."""

    quota: str
    tenant: str
    subject: str
    meter: Meter
    period: Period
    amount: int
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None
    generation: int = 1


@dataclass(frozen=True)
class Balance:
    """What is spent and reserved of a quota in one period."""

    start: datetime
    spent: int = 0
    reserved: int = 0


class Standing(NamedTuple):
    """A quota, and what is spent and reserved of it now."""

    quota: Quota
    balance: Balance


@dataclass(frozen=True)
class Entry:
    """An entry of the ledger: what was reserved for some work, and then what was used.

    One that is `estimated` was charged in full because its holder never reported the use.
    """

    entry: str
    tenant: str
    project: str
    principal: str
    kind: str
    model: str
    reserved: Amounts
    # What the work is known by elsewhere: the job of a training, the operation of other long work.
    reference: str = ""
    owner: str = ""
    state: State = State.RESERVED
    used: Amounts = field(default=Amounts())
    estimated: bool = False
    prices: int = 0
    create_time: datetime = NEVER
    expire_time: datetime | None = None
    settle_time: datetime | None = None


@dataclass(frozen=True)
class Claim:
    """A wish to reserve: as much as `entry.reserved`, at least `least`, until `seconds` from now."""

    entry: Entry
    least: Amounts
    seconds: float


@dataclass(frozen=True)
class Price:
    """Millionths of the currency for so many units of a meter, for one kind of work or for all."""

    meter: Meter
    micros: int
    per: int = 1
    kind: str = ""


@dataclass(frozen=True)
class PriceList:
    """Prices that hold from a time on. Nothing changes a list; a later one takes its place."""

    version: int
    currency: str
    valid_from: datetime
    prices: tuple[Price, ...]
    create_time: datetime


@dataclass(frozen=True)
class Question:
    """Which use is to be summed; empty fields restrict nothing."""

    tenant: str
    project: str = ""
    principal: str = ""
    model: str = ""
    kind: str = ""
    group_by: tuple[str, ...] = ()
    period: Period = Period.TOTAL
    start: datetime | None = None
    end: datetime | None = None


class Sum(NamedTuple):
    """What was used by one combination; `key` is the period as 2026-11-22 or 2026-11, and what GROUPS says."""

    key: tuple[str, ...]
    used: Amounts
    estimated: Amounts
    entries: int


def subjects(project: str, principal: str) -> tuple[str, str, str]:
    """The subjects whose quotas a use counts on: all of them must have room."""
    return TENANT, f"project:{project}", principal


def start(period: Period, at: datetime) -> datetime:
    """When the period began that a time lies in."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {Period.TOTAL: NEVER, Period.DAY: day, Period.MONTH: day.replace(day=1)}[period]


def end(period: Period, begun: datetime) -> datetime | None:
    """When a period ends that began at a time; None: never."""
    if period is Period.TOTAL:
        return None
    return start(period, begun + timedelta(days=1 if period is Period.DAY else 32))


def current(lists: Iterable[PriceList], at: datetime) -> PriceList | None:
    """The prices that hold at a time: of those that had begun the one that began last, then the newest."""
    begun = [one for one in lists if one.valid_from <= at]
    return max(begun, key=lambda one: (one.valid_from, one.version), default=None)


def priced(amounts: Amounts, kind: str, prices: PriceList | None) -> Amounts:
    """Amounts with their price, each meter rounded up to a whole millionth."""
    total = 0
    for price in prices.prices if prices else ():
        if price.kind in ("", kind):
            total += -(-amounts.of(price.meter) * price.micros // price.per)
    return amounts._replace(money_micros=total)


def smaller(wanted: Amounts, least: Amounts, scarce: Iterable[Meter]) -> Amounts:
    """Half of what is wanted of meters that are scarce, of none below what is needed."""
    half = {meter.value: max(wanted.of(meter) // 2, least.of(meter)) for meter in scarce}
    return wanted._replace(**half)


def bought(scarce: set[Meter], kind: str, prices: PriceList | None) -> set[Meter]:
    """The meters to take less of where some are scarce: for money, those with a price."""
    listed = prices.prices if prices and Meter.MONEY in scarce else ()
    return scarce - {Meter.MONEY} | {price.meter for price in listed if price.kind in ("", kind)}


def exceeded(quota: Quota, balance: Balance, wanted: int, now: datetime) -> Failure:
    """The refusal of a use of more than is left: which quota it is, and when it is renewed."""
    left = max(quota.amount - balance.spent - balance.reserved, 0)
    whole = {Period.TOTAL: "", Period.DAY: " for the day", Period.MONTH: " for the month"}[quota.period]
    detail = (
        f"quota {quota.quota} of {_named(quota.subject)}: {left} of {quota.amount} {quota.meter.value}{whole} "
        f"are neither spent nor reserved, {wanted} are needed"
    )
    until = end(quota.period, balance.start)
    return Failure(Code.QUOTA_EXCEEDED, detail, retry_after=(until - now).total_seconds() if until else None)


def _named(subject: str) -> str:
    kind, _, name = subject.partition(":")
    return f"{kind} {name}" if name else f"the {kind}"


def check(quota: Quota) -> None:
    """Raises invalid_value for a quota that makes no sense."""
    if not _SUBJECT.match(quota.subject):
        raise invalid("/subject", "must be tenant, project:<name>, key:<8 characters> or user:<name>")
    if quota.meter is Meter.STORAGE and not quota.subject.startswith((TENANT, "project:")):
        raise invalid("/subject", "must be tenant or project:<name>: what is kept is of no single caller")
    _check_amount(quota.amount)


def _check_amount(amount: int) -> None:
    if not 0 <= amount <= MOST:
        raise invalid("/amount", f"must be between 0 and {MOST}")


def resized(quota: Quota, amount: int, etag: str, now: datetime) -> Quota:
    """The quota with another amount. Raises not_found, etag_mismatch, invalid_value."""
    _check_amount(amount)
    return changed(_live(quota, etag), now, amount=amount)


def deleted(quota: Quota, etag: str, now: datetime) -> Quota:
    """The quota, deleted. Raises not_found, etag_mismatch."""
    return changed(_live(quota, etag), now, delete_time=now)


def _live(quota: Quota, etag: str) -> Quota:
    live(quota)
    match_etag(etag, quota.generation, quota.quota)
    return quota


def live(quota: Quota) -> None:
    """Raises not_found for a quota that is deleted."""
    if quota.delete_time:
        raise NotFound(f"there is no quota {quota.quota}")
