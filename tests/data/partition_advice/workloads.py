"""Tables with queries by which advice is judged, made by seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

DAYS = 730
SIZES = (20_000, 60_000, 150_000, 400_000, 150_000, 60_000)
# Queries by name with weights.
MIXES: tuple[dict[str, float], ...] = (
    {"point": 1},
    {"key": 1},
    {"among": 1},
    {"range": 1},
    {"recent": 1},
    {"scan": 1},
    {"key": 3, "scan": 1},
    {"range": 2, "key": 2},
    {"both": 1},
    {"pair": 1},
    {"point": 2, "range": 1},
    {"user": 1},
    {"country": 1, "key": 1},
    {"amount": 1},
    {"user": 3, "scan": 1},
    {"recent": 3, "key": 1, "scan": 1},
    {"both": 2, "range": 1},
    {"among": 2, "user": 1},
)
# Queries that are known: many, few, none.
KNOWN = (300, 40, 3, 300, 0, 40, 300)


@dataclass(frozen=True)
class Workload:
    """A table and what is asked of it: before the advice, and after."""

    name: str
    table: pa.Table
    known: tuple[str, ...]
    asked: tuple[str, ...]


def workload(seed: int, size: int = 0, queries: int = 12, ordered: bool | None = None) -> Workload:
    """One by its seed; each has another mix of size, skew, order of the rows and queries."""
    rng = np.random.default_rng(seed)
    rows, mix = size or SIZES[seed % len(SIZES)], MIXES[seed % len(MIXES)]
    skew, drawn = float(rng.choice([0.0, 0.8, 1.3])), bool(rng.random() < 0.5)
    ordered = drawn if ordered is None else ordered
    tenants = int(rng.choice([6, 40, 300, 3000]))
    table = _table(rng, rows, skew, ordered, tenants)
    known, popular = KNOWN[seed % len(KNOWN)], bool(rng.random() < 0.5)
    if not known:
        mix = {"scan": 2, "recent": 1, "key": 1}
    ask = _asking(rng, table, popular)
    names, weights = list(mix), np.asarray(list(mix.values()), float)

    def some(count: int) -> tuple[str, ...]:
        # As often as the weights say, so that the queries to come are of the mix.
        drawn = [rng.choice(names, p=weights / weights.sum()) for _ in range(count)]
        return tuple(ask(str(name)) for name in drawn)

    exact = [name for name, weight in mix.items() for _ in range(round(queries * weight / weights.sum()))]
    text = "+".join(f"{weight:g} {name}" for name, weight in mix.items())
    text = f"{seed}: {rows} rows{' in order' if ordered else ''}, {tenants} tenants, skew {skew}, {text}, {known} known"
    return Workload(f"{text}{', popular keys' if popular else ''}", table, some(known), tuple(map(ask, exact)))


def _table(rng: np.random.Generator, rows: int, skew: float, ordered: bool, tenants: int) -> pa.Table:
    days = rng.integers(0, DAYS, rows)
    if ordered:
        days = np.sort(days)
    share = 1.0 / np.arange(1, tenants + 1) ** skew
    tenant = rng.choice(tenants, rows, p=share / share.sum())
    first = date(2024, 1, 1).toordinal() - date(1970, 1, 1).toordinal()
    ids = np.arange(rows) if ordered else rng.permutation(rows)
    return pa.table({
        "id": ids,
        "day": pa.array((days + first).astype("int32"), pa.int32()).cast(pa.date32()),
        "tenant": pa.array([f"tenant-{number:05d}" for number in tenant]),
        # A tenant is in one country; a user is of one tenant.
        "country": pa.array([f"C{number * 7919 % 23:02d}" for number in tenant]),
        "user": tenant * 100 + rng.integers(0, 100, rows),
        "amount": np.round(rng.lognormal(3, 1, rows), 2),
        "note": pa.array([f"note {number % 977} of {number % 31}" for number in rng.integers(0, 10**9, rows)]),
        "price": rng.normal(size=rows),
    })  # fmt: skip


def _asking(rng: np.random.Generator, table: pa.Table, popular: bool) -> Callable[[str], str]:
    names = ("id", "tenant", "country", "user", "amount")
    kept: dict[str, list[Any]] = {name: table[name].to_pylist() for name in names}
    every = {name: sorted(set(values)) for name, values in kept.items()}
    start = date(2024, 1, 1)

    def value(name: str) -> Any:
        return rng.choice(kept[name] if popular else every[name])

    def days(most: float) -> str:
        width = int(rng.integers(1, max(int(DAYS * most), 2)))
        first = int(rng.integers(0, DAYS - width))
        return f"day BETWEEN '{start + timedelta(days=first)}' AND '{start + timedelta(days=first + width)}'"

    def ask(name: str) -> str:
        match name:
            case "point":
                return f"SELECT * FROM t WHERE id = {value('id')}"
            case "key":
                return f"SELECT sum(amount) AS total FROM t WHERE tenant = '{value('tenant')}'"
            case "country":
                return f"SELECT sum(amount) AS total, count(*) AS n FROM t WHERE country = '{value('country')}'"
            case "among":
                names = ", ".join(f"'{value('tenant')}'" for _ in range(int(rng.integers(2, 6))))
                return f"SELECT tenant, sum(amount) AS total FROM t WHERE tenant IN ({names}) GROUP BY tenant"
            case "range":
                return f"SELECT count(*) AS n, sum(amount) AS total FROM t WHERE {days(0.1)}"
            case "recent":
                since = start + timedelta(days=DAYS - int(rng.integers(1, 60)))
                return f"SELECT tenant, sum(amount) AS total FROM t WHERE day >= DATE '{since}' GROUP BY tenant"
            case "both":
                return f"SELECT id, amount, note FROM t WHERE tenant = '{value('tenant')}' AND {days(0.2)}"
            case "pair":
                at = int(rng.integers(0, table.num_rows))
                return f"SELECT * FROM t WHERE tenant = '{kept['tenant'][at]}' AND user = {kept['user'][at]}"
            case "user":
                return f"SELECT id, day, amount FROM t WHERE user = {value('user')}"
            case "amount":
                low, width = float(rng.choice(kept["amount"])), float(rng.random()) * 5
                return f"SELECT count(*) AS n FROM t WHERE amount BETWEEN {low:.2f} AND {low + width:.2f}"
        return "SELECT tenant, sum(amount) AS total, avg(price) AS mean FROM t GROUP BY tenant"

    return ask
