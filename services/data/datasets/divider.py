"""Has a child divide the new rows of a commit into partitions."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from services.data.datasets import parquet
from services.data.datasets.domain import NewVersion
from services.data.datasets.layouts import Layout, Placing
from services.data.datasets.tables import Tables
from services.data.schema import Column
from services.kit import process
from services.kit.auth import Scope
from services.kit.errors import FailedPrecondition, InvalidValue
from services.kit.turns import Turns

WORK, _LAYOUT = "services.data.datasets.divide_work", TypeAdapter(Layout)


class Divider:
    """Runs as many at a time as there are turns; others wait."""

    def __init__(self, tables: Tables, limits: process.Limits, free: Turns) -> None:
        self._tables, self._limits, self._free = tables, limits, free

    async def divided(self, scope: Scope, new: NewVersion, layout: Layout | None) -> NewVersion:
        """With its new rows in files of one partition each. Raises failed_precondition where they do not fit."""
        if layout is None or not new.files:
            return replace(new, files=tuple(replace(file, partition=None) for file in new.files), layout=layout)

        name = hashlib.sha256(_LAYOUT.dump_json(layout)).hexdigest()[:8]
        try:
            Placing(layout, {column.name: column.type for column in new.columns})
            async with (
                self._free.turn(scope.tenant),
                self._tables.holding(scope, new.data_set, new.run, new.files) as here,
            ):
                folder, files = self._tables.folder(scope, new.data_set, new.run), [here / f.path for f in new.files]
                request = request_of(layout, files, new.columns, folder, name)
                answer = await process.run(WORK, request, self._limits)
        except InvalidValue as failure:
            text = f"the rows do not fit the partitions of {new.data_set}: {failure.detail}"
            raise FailedPrecondition(text) from None
        return replace(new, files=parquet.from_json(answer["files"]), layout=layout)


def request_of(
    layout: Layout, files: Sequence[Path], columns: Sequence[Column], folder: Path, name: str
) -> dict[str, Any]:
    """What the child is told."""
    return {
        "files": [str(path) for path in files],
        "columns": [(column.name, column.type.value, column.nullable) for column in columns],
        "layout": _LAYOUT.dump_python(layout, mode="json"),
        "folder": str(folder),
        "name": name,
    }
