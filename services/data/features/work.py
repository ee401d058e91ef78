"""The child that fits a feature set: reads the training rows of the needed columns, one column at a time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from services.data.features.domain import RowRange
from services.data.features.steps import Step, Transform
from services.data.schema import Column, ColumnType
from services.kit import folds
from services.kit.child import Child
from services.kit.errors import FailedPrecondition

Json = dict[str, Any]


def main(request: Json, child: Child) -> Json:
    """Fits `steps` on the rows `train` of Parquet `files` and writes the graph to the path `graph`.

    Raises failed_precondition when there is nothing to fit on.
    """
    from services.data.features.fitting import fit
    from services.data.features.graph import compile_graph

    steps = TypeAdapter(tuple[Step, ...]).validate_python(request["steps"])
    inputs = {column.name: column for column in TypeAdapter(tuple[Column, ...]).validate_python(request["inputs"])}
    train = TypeAdapter(RowRange | None).validate_python(request["train"])
    kept = [_mask(path, train) for path in request["files"]]
    rows = sum(int(mask.sum()) for mask in kept)
    if not rows:
        raise FailedPrecondition("there are no rows to fit on")
    fitted = []
    for index, step in enumerate(steps):
        child.progress({"progress": index / len(steps), "message": f"fitting {step.transform}({step.column})"})
        values, *_ = named = [_values(request["files"], kept, inputs, name) for name in step.columns.values()]
        others = dict(zip(step.others, named[1:], strict=True))
        if step.transform is Transform.TARGET:
            others["label"] = _all(_numbers, request["files"], kept, request["label"])
            others["fold"] = _all(_folds, request["files"], kept, request["key"])
        fitted.append(fit(step, values, others))
    Path(request["graph"]).write_bytes(compile_graph(fitted))
    return {
        "rows": rows,
        "outputs": [name for step in fitted for name in step.outputs],
        "scalings": [vars(scaling) for step in fitted for scaling in step.scalings],
    }


def _read(path: str, column: str) -> Any:
    """One column of one file; None where the file is older than the column."""
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        return file.read([column]).column(0) if column in file.schema_arrow.names else file.metadata.num_rows


def _numbers(path: str, column: str) -> Any:
    """FP64 with NaN for NULL; a time in seconds since 1970, as graphs take it."""
    import numpy as np
    import pyarrow as pa

    found = _read(path, column)
    if isinstance(found, int):
        return np.full(found, np.nan)
    if pa.types.is_temporal(found.type):
        microseconds = found.cast(pa.timestamp("us", getattr(found.type, "tz", None)), safe=False).cast(pa.int64())
        return microseconds.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy() / 1e6
    whole = found.cast(pa.int8()) if pa.types.is_boolean(found.type) else found
    return whole.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy()


def _texts(path: str, column: str) -> Any:
    """Objects that are str, "" for NULL."""
    import numpy as np

    found = _read(path, column)
    return np.full(found, "", object) if isinstance(found, int) else found.fill_null("").to_numpy(zero_copy_only=False)


def _folds(path: str, column: str) -> Any:
    import numpy as np

    found = _read(path, column)
    return np.zeros(found, np.int64) if isinstance(found, int) else folds.of(found)


def _mask(path: str, train: RowRange | None) -> Any:
    import numpy as np
    import pyarrow.parquet as parquet

    if train is None:
        return np.ones(parquet.read_metadata(path).num_rows, bool)
    values = _numbers(path, train.column)
    low = values >= (train.start if train.start is not None else -np.inf)
    return low & (values <= (train.end if train.end is not None else np.inf))


def _values(files: Sequence[str], kept: Sequence[Any], inputs: Mapping[str, Column], name: str) -> Any:
    """A column that the graph takes, by its type; one that it does not take is of numbers."""
    text = name in inputs and inputs[name].type is ColumnType.STRING
    return _all(_texts if text else _numbers, files, kept, name)


def _all(read: Callable[[str, str], Any], files: Sequence[str], kept: Sequence[Any], column: str) -> Any:
    import numpy as np

    return np.concatenate([read(path, column)[mask] for path, mask in zip(files, kept, strict=True)])
