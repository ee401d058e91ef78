"""Versions of data sets for tests, written as a child would and committed as its parent would."""

from typing import Any

import pyarrow as pa

from services.data.arrow import columns_of, fit
from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, LineageNode, NewVersion
from services.data.datasets.service import DataSets
from services.kit.auth import Scope
from services.kit.timestamps import uuid7
from tests.support.house import House

SCOPE = Scope("acme")


def data_sets(house: House) -> DataSets:
    """The use cases of a running house, as the other slices get them."""
    service: DataSets = house.runtime.apps["data"].rpc["aimass.v1.DataSets"]._data_sets
    return service


async def written(house: House, name: str, rows: pa.Table | dict[str, Any], run: str = "", **said: Any) -> NewVersion:
    """What a child has written and its parent has not committed."""
    table = rows if isinstance(rows, pa.Table) else pa.table(rows)
    run = run or uuid7()
    folder = await data_sets(house).prepare(SCOPE, name, run)
    columns = said.pop("columns", columns_of(table.schema))
    table = fit(table, columns)
    writer, aside = parquet.Writer(folder, columns), parquet.quarantine_writer(folder)
    writer.write(table)
    found = statistics.Statistics(columns)
    found.add(table)
    broken: list[tuple[str, str, str]] = said.pop("broken", [])
    if broken:
        aside.write(pa.table(dict(zip(("record", "reason", "origin"), zip(*broken, strict=True), strict=True))))
    counts: dict[str, int] = {}
    for _, reason, _ in broken:
        counts[reason] = counts.get(reason, 0) + 1
    parents = said.pop("parents", (LineageNode("source", "db"),))
    append = said.pop("append", False)
    return NewVersion(
        name, run, writer.close(), columns, append, counts, {}, aside.close(), parents, found.result(), **said
    )


async def add(house: House, name: str, rows: pa.Table | dict[str, Any], run: str = "", **said: Any) -> DataSetVersion:
    """A new version."""
    return await data_sets(house).commit(SCOPE, await written(house, name, rows, run, **said))
