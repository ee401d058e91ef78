"""A step of each transform over made-up columns, for tests of what holds for all of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from services.data.features.constants import Array
from services.data.features.fitting import FittedStep, fit
from services.data.features.steps import Aggregate, DatePart, Imputation, Step, Transform

_WORDS = np.array(["late", "Plane,", "gate", "crew", "storm", "é", "a", "B52", "never", ""], object)
_SPECIAL: dict[Transform, dict[str, Any]] = {
    Transform.ONE_HOT: {"column": "kind"},
    Transform.COUNT: {"column": "name"},
    Transform.CYCLIC: {"column": "hour", "period": 24},
    Transform.STANDARDIZE_TREND: {"order": "at"},
    Transform.ORDINAL: {"column": "name"},
    Transform.TARGET: {"column": "name"},
    Transform.HASH: {"column": "name", "buckets": 16},
    Transform.BIN_EDGES: {"edges": (-3.0, 0.0, 0.5)},
    Transform.LOG: {"column": "wide"},
    Transform.POWER: {"column": "wide", "exponent": 0.37},
    Transform.DATE_PART: {"column": "at", "part": DatePart.DAY_OF_YEAR},
    Transform.DATE_CYCLIC: {"column": "at", "part": DatePart.MONTH},
    Transform.GEO_DISTANCE: {"longitude": "y", "to_latitude": "hour", "to_longitude": "y"},
    Transform.PRODUCT: {"other": "y"},
    Transform.RATIO: {"other": "y"},
    Transform.DIFFERENCE: {"other": "wide"},
    Transform.CROSS: {"column": "kind", "other": "hour"},
    Transform.GROUP: {"column": "wide", "group": "name", "aggregate": Aggregate.MEDIAN},
    Transform.TEXT_HASH: {"column": "text", "buckets": 16},
    Transform.TEXT_TFIDF: {"column": "text"},
}
STEPS = [
    *(Step(**{"column": "x", "transform": transform, **_SPECIAL.get(transform, {})}) for transform in Transform),
    Step("x", Transform.CYCLIC, Imputation.MEDIAN, cycle=0.7),
    *(Step("wide", Transform.POWER, exponent=power) for power in (3.0, -2.0, 0.5)),
    *(Step("at", Transform.DATE_PART, part=part) for part in DatePart if part not in ("", "day_of_year")),
]


def columns(rows: int, seed: int) -> dict[str, Array]:
    """Columns of made-up values, some missing; names are many, and some of another seed are unseen."""
    random = np.random.default_rng(seed)
    words = random.choice(_WORDS, (rows, 6))
    values: dict[str, Array] = {
        "x": random.normal(size=rows),
        "y": random.uniform(-180, 180, rows),
        "wide": random.normal(size=rows) * 10.0 ** random.integers(-9, 9, rows),
        "hour": random.integers(0, 25, rows).astype(float),
        "at": random.uniform(-3e9, 5e9, rows),
    }
    values = {name: np.where(random.random(rows) < 0.05, np.nan, found) for name, found in values.items()}
    values["kind"] = random.choice(np.array(["UA", "AA", "", "日本"], object), rows)
    values["name"] = np.array([f"N{number}" for number in random.integers(0, 3 * rows, rows) % 30_000], object)
    values["text"] = np.array([" ".join(found) for found in words.tolist()], object)
    return values


def fitted(given: Mapping[str, Array]) -> list[FittedStep]:
    """All of them, fitted."""
    count = len(given["x"])
    taught = {"label": np.arange(count) % 2.0, "fold": np.arange(count) % 5}
    return [
        fit(step, given[step.column], {field: given[name] for field, name in step.others.items()} | taught)
        for step in STEPS
    ]
