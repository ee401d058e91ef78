"""The tables of the ledger. They belong to a tenant; the project of a ledger's entry is where the work was done."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, String
from sqlalchemy.engine import Row

from services.gateway.database import schema
from services.gateway.ledger.domain import Amounts, Entry, Meter, Period, Price, PriceList, Quota, State
from services.kit.auth import SYSTEM, Scope
from services.kit.db import UtcDateTime, scoped

METERS = tuple(meter.value for meter in Meter)
_LARGEST = 210  # characters of a subject
_amounts = [Column(f"{what}_{meter}", BigInteger, nullable=False) for what in ("reserved", "used") for meter in METERS]

quota = scoped(
    "quota",
    schema.metadata,
    Column("quota", String(63), primary_key=True),
    Column("subject", String(_LARGEST), nullable=False),
    Column("meter", String(32), nullable=False),
    Column("period", String(16), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
# A sum over the ledger that is kept: what is not there is summed up when it is needed.
balance = scoped(
    "quota_balance",
    schema.metadata,
    Column("quota", String(63), primary_key=True),
    Column("start", UtcDateTime, primary_key=True),
    Column("spent", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
)
ledger = scoped(
    "ledger",
    schema.metadata,
    Column("entry", String(36), primary_key=True),
    Column("principal", String(_LARGEST), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("model", String(63), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("owner", String(100), nullable=False),
    Column("state", String(16), nullable=False),
    *_amounts,
    Column("estimated", Boolean, nullable=False),
    Column("prices", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("expire_time", UtcDateTime),
    Column("settle_time", UtcDateTime),
    Index("ledger_time", "tenant", "create_time"),
    Index("ledger_state", "state", "expire_time"),
    Index("ledger_reference", "tenant", "project", "kind", "reference"),
)
# Of the installation: its rows are those of tenant `system`.
price_list = scoped(
    "price_list",
    schema.metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("currency", String(3), nullable=False),
    Column("prices", JSON, nullable=False),
    Column("valid_from", UtcDateTime, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)


def quota_row(of: Quota) -> dict[str, Any]:
    """A quota's columns."""
    return vars(of) | Scope(of.tenant)._asdict() | {"meter": of.meter.value, "period": of.period.value}


def as_quota(row: Row[Any]) -> Quota:
    """The quota of a row."""
    return Quota(
        row.quota,
        row.tenant,
        row.subject,
        Meter(row.meter),
        Period(row.period),
        row.amount,
        row.create_time,
        row.update_time,
        row.delete_time,
        row.generation,
    )


def entry_row(of: Entry) -> dict[str, Any]:
    """An entry's columns."""
    row = vars(of) | {"state": of.state.value}
    for what in ("reserved", "used"):
        row |= {f"{what}_{meter}": amount for meter, amount in row.pop(what)._asdict().items()}
    return row


def as_entry(row: Row[Any]) -> Entry:
    """The entry of a row."""
    values = row._asdict()
    for what in ("reserved", "used"):
        values[what] = Amounts(**{meter: values.pop(f"{what}_{meter}") for meter in METERS})
    return Entry(**values | {"state": State(row.state)})


def price_row(of: PriceList) -> dict[str, Any]:
    """A list's columns."""
    prices = [vars(price) for price in of.prices]
    return vars(of) | Scope(SYSTEM)._asdict() | {"prices": prices}


def as_prices(row: Row[Any]) -> PriceList:
    """The list of a row."""
    prices = tuple(Price(**values | {"meter": Meter(values["meter"])}) for values in row.prices)
    times: tuple[datetime, datetime] = (row.valid_from, row.create_time)
    return PriceList(row.version, row.currency, times[0], prices, times[1])
