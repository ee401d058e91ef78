"""The child that divides rows into partitions."""

import time
from pathlib import Path

from pydantic import TypeAdapter

from services.data.datasets import parquet
from services.data.datasets.dividing import divide
from services.data.datasets.layouts import Layout, Placing
from services.data.schema import Column, ColumnType
from services.kit.child import Child, Json

_LAYOUT, _TELL = TypeAdapter(Layout), 0.5  # seconds between two words to the parent


def main(request: Json, child: Child) -> Json:
    """`{files, columns, layout, folder, name}` to `{files}`; rows so far as progress. Raises invalid_value."""
    columns = tuple(Column(name, ColumnType(kind), bool(null)) for name, kind, null in request["columns"])
    placing = Placing(_LAYOUT.validate_python(request["layout"]), {column.name: column.type for column in columns})
    folder, told = Path(request["folder"]), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    for found in divide([Path(path) for path in request["files"]], columns, placing, folder, request["name"]):
        if not isinstance(found, int):
            return {"files": parquet.to_json(found)}
        if time.monotonic() - told > _TELL:
            told = time.monotonic()
            child.progress({"rows": found})
    raise AssertionError
