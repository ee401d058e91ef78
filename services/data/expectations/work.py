"""The child that looks at the rows of a new version, or of one that expectations are learnt from."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from services.data.arrow import arrow_schema, arrow_type, fit
from services.data.datasets import parquet, statistics
from services.data.datasets.domain import EXPECTED, QUARANTINE
from services.data.datasets.rows import to_rows
from services.data.expectations import learning
from services.data.expectations.domain import OF_TABLES, Action, Expectation, Kind, fits, said, value_of
from services.data.schema import Column, ColumnType
from services.kit.child import Child, Json

_ITEMS = TypeAdapter(tuple[Expectation, ...])


def main(request: Json, child: Child) -> Json:
    """`{learn}` to what a version fulfils; else what came of expectations, and the files of rows that broke none."""
    if "learn" in request:
        return learning.main(request)
    return _Look(request).look()


class _Look:
    """One look at the rows of a run."""

    def __init__(self, request: Json) -> None:
        self.folder, self.data_set = Path(request["folder"]), str(request["data_set"])
        self.columns = tuple(Column(name, ColumnType(kind), bool(null)) for name, kind, null in request["columns"])
        self.types = {column.name: column.type for column in self.columns}
        self.files: list[str] = request["files"]
        self.old: list[str] = request["old"]
        self.items = _ITEMS.validate_python(request["items"])

    def look(self) -> Json:
        """Counts first; rows are written anew only where some have to be quarantined and nothing is blocked."""
        import numpy as np

        masks = [self._broken(item) for item in self.items]
        aside = [mask for item, mask in zip(self.items, masks, strict=True) if item.action is Action.QUARANTINE]
        rows = sum(table.num_rows for table in self._tables(self.columns[:1]))
        put_aside = np.logical_or.reduce([mask for mask in aside if mask is not None] or [np.zeros(rows, bool)])
        kept = rows - int(put_aside.sum())
        results = [
            self._of_table(item, ~put_aside, kept) if mask is None else _of_rows(mask)
            for item, mask in zip(self.items, masks, strict=True)
        ]
        blocked = any(failed and i.action is Action.BLOCK for i, (failed, _) in zip(self.items, results, strict=True))
        answer: Json = {"results": results, "rewritten": None}
        if kept < rows and not blocked:
            answer["rewritten"] = self._write(put_aside, masks)
        return answer

    def _broken(self, item: Expectation) -> Any:
        """Whether each row breaks it, as numpy has it; None for one that no single row breaks."""
        import numpy as np
        import pyarrow as pa

        if item.kind in OF_TABLES:
            return None
        column = Column(item.column, self.types.get(item.column, ColumnType.STRING))
        chunks = [chunk for table in self._tables((column,)) for chunk in table.column(0).chunks]
        values = pa.chunked_array(chunks, arrow_type(column.type))
        if item.kind is Kind.UNIQUE:
            return self._seen_before(column, values)
        try:
            found = _breaks(item, values, column.type)
        except (ValueError, OverflowError):  # the column has become another type than the expectation was made for
            found = values.is_valid()
        return np.asarray(found.to_numpy(), bool)

    def _seen_before(self, column: Column, values: Any) -> Any:
        """Rows whose value is in an old row or in a new one before it."""
        import numpy as np
        import pyarrow as pa

        old = [chunk for table in _read(self.old, (column,)) for chunk in table.column(0).chunks]
        both = pa.chunked_array([*old, *values.chunks], values.type)
        table = pa.table({"value": both, "at": np.arange(len(both))})
        first = table.group_by("value").aggregate([("at", "min")]).column("at_min").to_numpy()
        seen = np.ones(len(both), bool)
        seen[first] = False
        seen &= np.asarray(both.is_valid().to_numpy(), bool)
        return seen[len(both) - len(values) :]

    def _of_table(self, item: Expectation, there: Any, kept: int) -> tuple[int, str]:
        if item.kind is Kind.ROW_COUNT:
            low, high = int(item.minimum or 0), int(item.maximum or 2**63)
            return int(not low <= kept <= high), f"{kept} rows"
        column, nulls, at = Column(item.column, self.types.get(item.column, ColumnType.STRING)), 0, 0
        for table in self._tables((column,)):
            nulls += int((table.column(0).is_null().to_numpy() & there[at : at + table.num_rows]).sum())
            at += table.num_rows
        return int(nulls > item.fraction * kept), f"{nulls} of {kept}"

    def _tables(self, columns: Sequence[Column]) -> Iterator[Any]:
        return _read(self.files, columns)

    def _write(self, aside: Any, masks: Sequence[Any]) -> Json:
        """The rows that are kept, and those that are put aside with the first expectation that each breaks."""
        import pyarrow as pa

        kept, broken = (
            parquet.Writer(self.folder, self.columns, "kept"),
            parquet.Writer(self.folder, QUARANTINE, "_broken"),
        )
        found, counts, at = statistics.Statistics(self.columns), dict[str, int](), 0
        for table in self._tables(self.columns):
            here = aside[at : at + table.num_rows]
            good, bad = table.filter(pa.array(~here)), table.filter(pa.array(here))
            kept.write(good)
            found.add(good)
            places = [at + int(place) for place in here.nonzero()[0]]
            reasons = [self._reason(masks, place) for place in places]
            for reason in reasons:
                counts[reason] = counts.get(reason, 0) + 1
            records = [orjson.dumps(row).decode() for row in to_rows(bad, self.columns)]
            origins = [f"{self.data_set}:{place + 1}" for place in places]
            broken.write(pa.table({"record": records, "reason": reasons, "origin": origins}, arrow_schema(QUARANTINE)))
            at += table.num_rows
        written = {
            "files": parquet.to_json(kept.close()),
            "quarantine": parquet.to_json(broken.close()),
            "quarantined": counts,
            "statistics": statistics.to_json(found.result()),
        }
        for path in self.files:
            Path(path).unlink()
        return written

    def _reason(self, masks: Sequence[Any], place: int) -> str:
        return EXPECTED + next(
            said(item)
            for item, mask in zip(self.items, masks, strict=True)
            if item.action is Action.QUARANTINE and mask is not None and mask[place]
        )


def _of_rows(mask: Any) -> tuple[int, str]:
    """How many rows break an expectation, and that in words."""
    return int(mask.sum()), f"{int(mask.sum())} of {len(mask)}"


def _read(files: Sequence[str], columns: Sequence[Column]) -> Iterator[Any]:
    """Row group by row group, with exactly these columns; one that a file lacks is NULL."""
    import pyarrow.parquet as pq

    for path in files:
        with pq.ParquetFile(path, memory_map=True) as file:
            names = [column.name for column in columns if column.name in file.schema_arrow.names]
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=names or file.schema_arrow.names[:1], use_threads=False)
                yield fit(table, columns)


def _breaks(item: Expectation, values: Any, kind: ColumnType) -> Any:
    """A boolean for each value. Raises ValueError for bounds that are not of the type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not fits(item.kind, kind):
        raise ValueError
    if item.kind is Kind.NOT_NULL:
        return values.is_null()
    if item.kind is Kind.VALUES:
        allowed = [value_of(text, kind) for text in item.values]
        return pc.and_(values.is_valid(), pc.invert(pc.is_in(values, pa.array(allowed, values.type))))
    inside = values.is_valid()
    if item.minimum:
        inside = pc.and_(inside, pc.greater_equal(values, pa.scalar(value_of(item.minimum, kind), values.type)))
    if item.maximum:
        inside = pc.and_(inside, pc.less_equal(values, pa.scalar(value_of(item.maximum, kind), values.type)))
    return pc.and_(values.is_valid(), pc.invert(pc.fill_null(inside, False)))
