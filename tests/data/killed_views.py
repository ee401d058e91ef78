"""A data service that kills itself as it materialises: `python -m tests.data.killed_views HOME POINT [REDIS]`."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from aimass.v1 import feature_views_pb2 as pb
from services.data.feature_views.runner import Materialiser
from services.data.feature_views.store import Store
from services.kit import process
from tests.data.killed import before, die, while_computing
from tests.data.tables import add
from tests.data.views import create, views
from tests.support.house import house

ROWS, SENSORS = 7_000, 300
_AT = datetime(2024, 1, 1, tzinfo=UTC)


def table() -> pa.Table:
    """The newest row of a sensor has its greatest temperature; the rows of one lie in no order of time."""
    order = [number * 3001 % ROWS for number in range(ROWS)]
    return pa.table(
        {
            "sensor": [f"s{number % SENSORS}" for number in order],
            "at": pa.array([_AT + timedelta(seconds=number) for number in order], pa.timestamp("us", tz="UTC")),
            "temp": [float(number) for number in order],
            "state": ["on"] * ROWS,
        }
    )


def in_a_page(count: int) -> Callable[[], None]:
    """Kills this process when it has stored so many pages, in the transaction of the next one."""
    seen, put = [0], Store.advance

    def advance(*args: Any) -> Any:
        step = put(*args)
        seen[0] += 1
        if seen[0] > count:
            die()
        return step

    return lambda: setattr(Store, "advance", advance)


def after_a_page() -> None:
    """Kills this process when a page is committed and its file is still there."""
    keep = Materialiser._keep

    async def kept(*args: Any) -> None:
        await keep(*args)
        die()

    setattr(Materialiser, "_keep", kept)  # noqa: B010 - mypy takes no assignment to a method


POINTS: dict[str, Callable[[], None]] = {
    "child": lambda: setattr(process, "run", while_computing),
    "first page": in_a_page(0),
    "third page": in_a_page(2),
    "behind a page": after_a_page,
    "end": lambda: before(Store, "finish"),
}


async def main(home: Path, point: str, redis: str = "") -> None:
    async with house(home, "data", **({"AIMASS_DATA_FEATURES_URL": redis} if redis else {})) as running:
        await add(running, "readings", table())
        await create(running)
        POINTS[point]()
        await views(running).MaterialiseFeatureView(pb.MaterialiseFeatureViewRequest(feature_view="sensors"))
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
