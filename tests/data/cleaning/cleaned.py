"""Steps over a table, as a child does them, without one."""

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from services.data.arrow import columns_of, fit
from services.data.cleaning import work
from services.data.cleaning.kinds import Kind
from services.data.cleaning.planning import check_steps, known_zone, planned
from services.data.cleaning.steps import Step, to_json
from services.kit.child import Json


class Quiet:
    """Hears what a child tells."""

    def progress(self, message: Json) -> None:
        """Nobody listens."""


def table_of(rows: pa.Table | dict[str, Any]) -> pa.Table:
    """With the types that columns have."""
    table = rows if isinstance(rows, pa.Table) else pa.table(rows)
    return fit(table, columns_of(table.schema))


def clean(
    folder: Path, rows: pa.Table | dict[str, Any], *kinds: Kind, learned: list[Json] | None = None, group: int = 3
) -> tuple[pa.Table, Json]:
    """What steps make of rows, and what the child tells. The files have row groups of `group` rows."""
    table, steps = table_of(rows), [Step(f"s{index}", kind) for index, kind in enumerate(kinds)]
    request = asked(folder, table, steps, group) | {"folder": str(folder / "out"), "learned": learned}
    (folder / "out").mkdir(exist_ok=True)
    told = orjson.loads(orjson.dumps(work.main(request, Quiet())))  # type: ignore[arg-type]
    read = [pq.read_table(folder / file["path"]) for file in told["files"]]
    return (pa.concat_tables(read) if read else pa.table({})), told


def preview(folder: Path, rows: pa.Table | dict[str, Any], *kinds: Kind, most: int = 1000) -> Json:
    """What a child tells of the first rows."""
    table, steps = table_of(rows), [Step(f"s{index}", kind) for index, kind in enumerate(kinds)]
    told: Json = work.main(asked(folder, table, steps, 3) | {"preview": most, "learned": None}, Quiet())  # type: ignore[arg-type]
    return told


def asked(folder: Path, table: pa.Table, steps: list[Step], group: int) -> Json:
    """As the parent asks, having checked the steps."""
    check_steps(steps, known_zone)
    columns = columns_of(table.schema)
    planned(steps, columns)
    pq.write_table(table, folder / "in.parquet", row_group_size=group)
    return {
        "data_set": "parcels",
        "files": [(str(folder / "in.parquet"), table.num_rows)],
        "columns": [(column.name, column.type.value, column.nullable) for column in columns],
        "steps": [to_json(step) for step in steps],
    }


def quarantined(folder: Path, told: Json) -> list[tuple[Json, str, str]]:
    """The rows that were put aside: record, reason, origin."""
    rows = [row for file in told["quarantine"] for row in pq.read_table(folder / file["path"]).to_pylist()]
    return [(orjson.loads(row["record"]), row["reason"], row["origin"]) for row in rows]
