"""Data sets made without a source: real Parquet files, committed as a run would commit them."""

from typing import Any

import numpy as np

from services.data.arrow import columns_of
from services.data.datasets.domain import DataSetVersion, NewVersion
from services.data.datasets.parquet import Writer
from services.data.datasets.service import DataSets
from services.data.datasets.store import Store
from services.data.datasets.tables import open_tables
from services.kit.auth import Scope
from services.kit.timestamps import uuid7
from tests.support.house import House


async def add_version(
    house: House, data_set: str, table: Any, tenant: str = "acme", append: bool = False
) -> DataSetVersion:
    """Adds the rows of an Arrow table to a data set as a new version."""
    runtime, scope, run = house.runtime, Scope(tenant), uuid7()
    database = runtime.apps["data"].database
    assert database
    tables = open_tables(runtime.storage, runtime.home / "tables")
    data_sets = DataSets(Store(database), tables, runtime.now, runtime.space)
    folder = await data_sets.prepare(scope, data_set, run)
    writer = Writer(folder, columns_of(table.schema))
    writer.write(table)
    new = NewVersion(data_set, run, writer.close(), columns_of(table.schema), append)
    version = await data_sets.commit(scope, new)
    await tables.close()
    return version


def flights(rows: int = 3000, seed: int = 1, first: int = 1) -> Any:
    """Flights that one can learn from: id, month, hour, carrier, temp (with gaps), late, and text that nobody needs."""
    import pyarrow as pa

    random = np.random.default_rng(seed)
    month, hour = random.integers(1, 13, rows), random.integers(5, 23, rows)
    carrier = random.choice(np.array(["UA", "AA", "B6", "EV"]), rows)
    temp = random.normal(50, 15, rows)
    odds = -2.5 + 0.15 * (hour - 8) + 1.2 * (carrier == "EV") + 0.02 * (50 - temp)
    late = random.random(rows) < 1 / (1 + np.exp(-odds))
    return pa.table(
        {
            "id": np.arange(first, first + rows),
            "month": month,
            "hour": hour,
            "carrier": pa.array(carrier, pa.string(), mask=random.random(rows) < 0.01),
            "temp": pa.array(np.where(random.random(rows) < 0.05, np.nan, temp), from_pandas=True),
            "late": late.astype(np.int64),
            "tailnum": pa.array([f"N{number % 50}" for number in range(rows)]),
        }
    )
