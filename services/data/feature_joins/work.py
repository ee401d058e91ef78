"""The child that joins features to rows as they were known at the time of each row.

Rows of a view and keys and times of the rows are divided into buckets by their key, on the disk; each bucket is joined
in memory, and what comes of them is put back into the order of the rows. So the memory that it needs depends on the
rows of the largest key, not on those of a data set.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zlib import crc32

from pydantic import TypeAdapter

from services.data.arrow import arrow_schema
from services.data.datasets import parquet, statistics
from services.data.feature_joins.domain import Join, JoinedView
from services.data.feature_views.computing import Computing, columns_read
from services.data.feature_views.work import key_texts, tables
from services.data.schema import Column
from services.kit.child import Child, Json

_JOIN = TypeAdapter(Join)
_SLICE = 32_768  # rows that are looked at together
_MOST = 200  # buckets of a view: each is an open file, and so are those of all views while rows are written
_BATCH = 8_192  # rows of a bucket that are held while its results are put back in order


def main(request: Json, child: Child) -> Json:
    """Joins; `files` and `view_files` are Parquet files (path, rows), `bucket_rows` how many a bucket should have."""
    join, scratch = _JOIN.validate_python(request["join"]), Path(request["scratch"])
    rows, results, found = sum(count for _, count in request["files"]), list[Path](), list[int]()
    each = zip(join.views, request["view_files"], request["graph_files"], strict=True)
    for number, (view, files, graph_file) in enumerate(each):
        child.progress({"progress": number / (len(join.views) + 1), "message": f"joining {view.feature_view}"})
        folder = scratch / str(number)
        folder.mkdir()
        most = max(rows, sum(count for _, count in files))
        buckets = min(_MOST, most // int(request["bucket_rows"]) + 1)
        _divide_features(view, files, graph_file, folder, buckets)
        _divide_rows(join, view, request["files"], folder, buckets)
        found.append(sum(_join_bucket(folder, bucket, view) for bucket in range(buckets)))
        if buckets * len(join.views) > _MOST:
            _bring_together(folder, rows)
        results.append(folder)
    output = parquet.Writer(Path(request["folder"]), join.outputs)
    seen = statistics.Statistics(join.outputs)
    with ExitStack() as stack:
        merged = [_Merged(folder, stack) for folder in results]
        for start, table in _tables(request["files"], join.columns, join.event_time):
            for view, results_of in zip(join.views, merged, strict=True):
                features = results_of.rows(start + table.num_rows)
                for name, column in zip(view.names, view.features, strict=True):
                    table = table.append_column(name, features.column(column.name))
            table = table.drop_columns(["__time"])
            output.write(table)
            seen.add(table)
    return {
        "files": parquet.to_json(output.close()),
        "statistics": statistics.to_json(seen.result()),
        "rows": rows,
        "found": found,
    }


def _tables(files: Sequence[Any], columns: Sequence[Column], event_time: str) -> Iterator[tuple[int, Any]]:
    """The columns and `__time` of some rows at a time, with the number of the first of them."""
    start = 0
    for table in tables(files, columns, event_time, 0, _SLICE):
        yield start, table
        start += table.num_rows


def _divide_features(view: JoinedView, files: Sequence[Any], graph_file: str, folder: Path, buckets: int) -> None:
    """Rows of the view with a key and a time, by bucket, in stored order."""
    columns = columns_read(view.view_keys, view.features, view.graph)
    computing = Computing(view.graph, graph_file, view.view_keys, view.features) if view.graph else None
    names = [column.name for column in view.features]
    with _Buckets(folder, "feature", buckets, arrow_schema(view.features)) as into:
        for _, read in _tables(files, columns, view.event_time):
            table = computing(read) if computing else read
            texts = key_texts(table, view.view_keys)
            into.add(texts, table.column("__time"), table.select(names), keep_missing=False)


def _divide_rows(join: Join, view: JoinedView, files: Sequence[Any], folder: Path, buckets: int) -> None:
    """Keys, times and places of the rows, by bucket, in stored order; those without a key are in the first."""
    import numpy as np
    import pyarrow as pa

    types = {column.name: column for column in join.columns}
    keys = [types[name] for name in view.keys]
    with _Buckets(folder, "row", buckets, pa.schema([("__place", pa.int64())])) as into:
        for start, table in _tables(files, keys, join.event_time):
            places = pa.table({"__place": np.arange(start, start + table.num_rows)})
            into.add(key_texts(table, keys), table.column("__time"), places, keep_missing=True)


class _Buckets:
    """Files of rows with `__key` and `__time`, one for each bucket."""

    def __init__(self, folder: Path, name: str, count: int, schema: Any) -> None:
        import pyarrow as pa

        self._folder, self._name, self._count = folder, name, count
        self._schema = pa.schema([("__key", pa.binary()), ("__time", pa.int64()), *schema])
        self._stack = ExitStack()

    def __enter__(self) -> "_Buckets":
        from pyarrow import ipc

        paths = [self._folder / f"{self._name}-{bucket}.arrow" for bucket in range(self._count)]
        self._into = [self._stack.enter_context(ipc.new_file(str(path), self._schema)) for path in paths]
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, texts: Sequence[bytes | None], times: Any, table: Any, keep_missing: bool) -> None:
        """Divides rows by their keys."""
        import numpy as np
        import pyarrow as pa

        missing = np.array([text is None for text in texts], bool) | times.is_null().to_numpy()
        which = np.fromiter((crc32(text or b"") % self._count for text in texts), np.int64, len(texts))
        which[missing] = 0 if keep_missing else -1
        keys = pa.array([None if gone else text for text, gone in zip(texts, missing, strict=True)], pa.binary())
        whole = pa.Table.from_arrays([keys, times, *table.columns], schema=self._schema)
        for bucket in np.unique(which[which >= 0]):
            self._into[bucket].write_table(whole.take(pa.array(np.flatnonzero(which == bucket))))


def _join_bucket(folder: Path, bucket: int, view: JoinedView) -> int:
    """Writes the features of the rows of a bucket, in their order; returns how many found a row of the view."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import ipc

    paths = {name: folder / f"{name}-{bucket}.arrow" for name in ("feature", "row", "result")}
    with pa.memory_map(str(paths["feature"])) as source, pa.memory_map(str(paths["row"])) as asked:
        features, rows = ipc.open_file(source).read_all(), ipc.open_file(asked).read_all()
        latest = _latest(features, rows, view.seconds_to_live)
        schema = pa.schema([("__place", pa.int64()), *arrow_schema(view.features)])
        with ipc.new_file(str(paths["result"]), schema) as into:
            for start in range(0, rows.num_rows, _BATCH):
                chosen = latest[start : start + _BATCH]
                taken = features.take(pa.array(chosen, mask=chosen < 0)).select(schema.names[1:])
                places = rows.column("__place").slice(start, _BATCH)
                arrays = [
                    places,
                    *(column.cast(field.type) for column, field in zip(taken.columns, [*schema][1:], strict=True)),
                ]
                into.write_table(pa.Table.from_arrays(arrays, schema=schema))
    for name in ("feature", "row"):
        paths[name].unlink()
    return int(np.count_nonzero(latest >= 0))


def _latest(features: Any, rows: Any, seconds_to_live: float | None) -> Any:
    """For each row the place of the newest feature of its key that is not later and not too old; -1 for none.

    Of features with one time the last counts, as it does where they are read by key.
    """
    import numpy as np
    import pyarrow as pa

    keys = pa.chunked_array([*features.column("__key").chunks, *rows.column("__key").chunks], pa.binary())
    codes = keys.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    times = np.concatenate([column.column("__time").fill_null(0).to_numpy() for column in (features, rows)])
    count = features.num_rows
    of_row = np.arange(len(codes)) >= count
    order = np.lexsort((of_row, times, codes))  # stable: what is equal stays in stored order, and features before rows
    newest = np.maximum.accumulate(np.where(of_row[order], -1, np.arange(len(order))))
    before = np.where(newest >= 0, order[newest], 0)
    there = (newest >= 0) & (codes[before] == codes[order]) & (codes[order] >= 0)
    if seconds_to_live:
        there &= times[order] - times[before] <= seconds_to_live * 1e6
    found = np.full(len(codes), -1, np.int64)
    found[order] = np.where(there, before, -1)
    return found[count:]


def _bring_together(folder: Path, rows: int) -> None:
    """Puts the results of a view's buckets into one file: those of many views are more than a process may open."""
    from pyarrow import ipc

    one = folder / "ordered.arrow"
    with ExitStack() as stack:
        merged = _Merged(folder, stack)
        into = stack.enter_context(ipc.new_file(str(one), merged.schema))
        for until in range(_SLICE, rows + _SLICE, _SLICE):
            into.write_table(merged.rows(until), max_chunksize=_BATCH)
    for path in folder.glob("result-*.arrow"):
        path.unlink()
    one.rename(folder / "result-0.arrow")


class _Merged:
    """The results of a view's buckets, in the order of the rows."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        import pyarrow as pa
        from pyarrow import ipc

        sources = [stack.enter_context(pa.memory_map(str(path))) for path in sorted(folder.glob("result-*.arrow"))]
        files = [ipc.open_file(source) for source in sources]
        self.schema = files[0].schema
        self._batches = [_batches(file) for file in files]
        self._rest: list[Any] = [next(batches, None) for batches in self._batches]

    def rows(self, until: int) -> Any:
        """The next rows, up to a place."""
        import numpy as np
        import pyarrow as pa

        pieces = []
        for bucket, batches in enumerate(self._batches):
            while (batch := self._rest[bucket]) is not None:
                count = int(np.searchsorted(batch.column(0).to_numpy(), until))
                if count:
                    pieces.append(batch.slice(0, count))
                if count < batch.num_rows:
                    self._rest[bucket] = batch.slice(count)
                    break
                self._rest[bucket] = next(batches, None)
        table = pa.Table.from_batches(pieces, self.schema)
        return table.take(pa.array(np.argsort(table.column(0).to_numpy(), kind="stable")))


def _batches(file: Any) -> Iterator[Any]:
    return (file.get_batch(number) for number in range(file.num_record_batches))
