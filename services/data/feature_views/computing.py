"""Features that a graph computes: the child's side, for what is read by key and for what is joined."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.data.feature_views.domain import Graph
from services.data.features.columns import as_numbers, as_texts
from services.data.schema import Column, ColumnType
from services.kit.graphs import open_session


class Computing:
    """Puts the outputs of a graph in the place of the columns that it takes."""

    def __init__(self, graph: Graph, path: str, keys: Sequence[Column], features: Sequence[Column]) -> None:
        """`path` is the graph's file. Raises invalid_value for one that does not load."""
        self._session = open_session(Path(path).read_bytes(), "features.onnx")
        self._inputs, self._keys, self._features = graph.inputs, keys, features
        self._places = [graph.outputs.index(column.name) for column in features]

    def __call__(self, table: Any) -> Any:
        """The keys, `__time` and the features, as numbers that are exact."""
        import numpy as np
        import pyarrow as pa

        feeds = {
            column.name: (as_texts if column.type is ColumnType.STRING else as_numbers)(table.column(column.name))
            for column in self._inputs
        }
        (found,) = self._session.run(["features"], {name: values.reshape(-1, 1) for name, values in feeds.items()})
        names = [column.name for column in self._keys] + ["__time"]
        outputs = [pa.array(found[:, place].astype(np.float64)) for place in self._places]
        return pa.Table.from_arrays(
            [*(table.column(name) for name in names), *outputs],
            names=[*names, *(column.name for column in self._features)],
        )


def columns_read(keys: Sequence[Column], features: Sequence[Column], graph: Graph | None) -> tuple[Column, ...]:
    """The columns of the data set that keys and features are made of, each once."""
    return tuple({column.name: column for column in (*keys, *(graph.inputs if graph else features))}.values())
