"""A step of a pipeline as its child takes it, called as its parent calls it but in this process."""

import json
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq

from services.data.pipelines import work
from services.data.sql import check_condition, check_query
from services.kit.child import Child


class Step:
    """A step over one table that grows."""

    def __init__(self, home: Path, child: Child) -> None:
        self._home, self._child, self._runs = home, child, 0

    def add(self, rows: dict[str, Any] | pa.Table) -> None:
        table = rows if isinstance(rows, pa.Table) else pa.table(rows)
        deltalake.write_deltalake(str(self._home / "raw"), table, mode="append")

    def run(self, sql: str = "SELECT * FROM raw", cursor: str = "", after: Any = None, **said: dict[str, str]) -> Any:
        self._runs += 1
        folder = self._home / f"run{self._runs}"
        folder.mkdir()
        checked = check_query(sql, {"raw"})
        version = deltalake.DeltaTable(str(self._home / "raw")).version()
        request = {
            "data_set": "out",
            "sql": checked.part,
            "order": list(checked.order),
            "tables": {"raw": {"uri": str(self._home / "raw"), "version": version}},
            "quarantine": [(reason, check_condition(text)) for reason, text in said.get("quarantine", {}).items()],
            "exclude": [(reason, check_condition(text)) for reason, text in said.get("exclude", {}).items()],
            "cursor": cursor,
            "after": after,
            "folder": str(folder),
        }
        # Once through JSON, as between the processes.
        return json.loads(json.dumps(work.main(json.loads(json.dumps(request)), self._child)))

    def rows(self, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for file in files for row in pq.read_table(self._home / file["path"]).to_pylist()]
