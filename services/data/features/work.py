"""The child that fits a feature set: reads the training rows of the needed columns, one column at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from services.data.features import columns
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
    kept = [columns.mask(path, train) for path in request["files"]]
    rows = sum(int(mask.sum()) for mask in kept)
    if not rows:
        raise FailedPrecondition("there are no rows to fit on")
    fitted = []
    for index, step in enumerate(steps):
        child.progress({"progress": index / len(steps), "message": f"fitting {step.transform}({step.column})"})
        values, *_ = named = [_values(request["files"], kept, inputs, name) for name in step.columns.values()]
        others = dict(zip(step.others, named[1:], strict=True))
        if step.transform is Transform.TARGET:
            others["label"] = columns.joined(columns.numbers, request["files"], kept, request["label"])
            others["fold"] = columns.joined(_folds, request["files"], kept, request["key"])
        fitted.append(fit(step, values, others))
    Path(request["graph"]).write_bytes(compile_graph(fitted))
    return {
        "rows": rows,
        "outputs": [name for step in fitted for name in step.outputs],
        "scalings": [vars(scaling) for step in fitted for scaling in step.scalings],
    }


def _folds(path: str, column: str) -> Any:
    import numpy as np

    found = columns.read(path, column)
    return np.zeros(found, np.int64) if isinstance(found, int) else folds.of(found)


def _values(files: Sequence[str], kept: Sequence[Any], inputs: Mapping[str, Column], name: str) -> Any:
    """A column that the graph takes, by its type; one that it does not take is of numbers."""
    text = name in inputs and inputs[name].type is ColumnType.STRING
    return columns.joined(columns.texts if text else columns.numbers, files, kept, name)
