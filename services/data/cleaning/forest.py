"""Rows that an isolation forest tells apart soonest (Liu, Ting and Zhou 2008). For children."""

import math
from typing import Any

from services.data.cleaning.filling import median
from services.data.cleaning.kinds import Action, Outliers
from services.data.cleaning.operators import Applied, Array, Json, Operator, Rows, column_of, replaced
from services.data.schema import ColumnType

_TREES, _SAMPLE = 64, 256
_SEED = 8_1_2008
_FRACTION = 0.01
_LEARNED_FROM = 100_000  # rows at most
_LEAF = -1
_LARGEST = 2.0**1022  # whose distances are doubles
_EULER = 0.5772156649015329


class Forest(Operator[Outliers]):
    """Trees of random cuts; the same for the same rows."""

    learns = True

    def learn(self, rows: Rows) -> None:
        import numpy as np

        columns = [column_of(rows, self.before[name]) for name in self.names]
        middle = [median(values, ColumnType.DOUBLE) or 0.0 for values in columns]
        inputs = _inputs(columns, middle)
        step = max(1, -(-len(inputs) // _LEARNED_FROM))
        inputs, random = inputs[::step], np.random.default_rng(_SEED)
        if not len(inputs):
            self.notes.append("there are no rows to learn from: none is an outlier")
            self.state = {"medians": middle, "trees": [], "bound": 1.0}
            return
        size = min(_SAMPLE, len(inputs))
        trees = [grown(inputs[random.choice(len(inputs), size, replace=False)], random) for _ in range(_TREES)]
        bound = np.quantile(scores(inputs, trees, size), 1 - (self.kind.fraction or _FRACTION))
        self.state = {"medians": middle, "trees": trees, "bound": float(bound), "size": size}

    def apply(self, table: Any) -> Applied:
        import numpy as np
        import pyarrow as pa

        inputs = _inputs([table.column(name) for name in self.names], self.state["medians"])
        outside = np.zeros(len(inputs), bool)
        if trees := self.state["trees"]:
            outside = scores(inputs, trees, self.state["size"]) > self.state["bound"]
        if self.kind.action == Action.QUARANTINE:
            return Applied(table, [(f"{', '.join(self.names)[:200]} are far from other rows", outside)])
        (mark,) = self.kind.marks
        return Applied(replaced(table, mark, pa.chunked_array([outside])))

    def shown(self) -> list[dict[str, str]]:
        return [{"column": self.names[0], "name": "score", "value": repr(self.state["bound"])}]


def _inputs(columns: list[Any], middle: list[float]) -> Array:
    """Doubles, the median for what is missing, and very large ones for what is larger than them, or infinite."""
    import numpy as np
    import pyarrow as pa

    plain = [values.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy() for values in columns]
    there = [np.nan_to_num(one, nan=at) for one, at in zip(plain, middle, strict=True)]
    return np.clip(np.column_stack(there), -_LARGEST, _LARGEST)


def grown(sample: Array, random: Any) -> Json:
    """A tree as lists: column and cut of each node, its children; of a leaf, how many rows and how deep."""
    import numpy as np

    tree: dict[str, list[Any]] = {"column": [], "cut": [], "left": [], "right": [], "length": []}
    deepest = math.ceil(math.log2(max(len(sample), 2)))
    waiting = [(sample, 0, -1, "")]
    while waiting:
        rows, depth, parent, side = waiting.pop()
        node = len(tree["column"])
        if parent >= 0:
            tree[side][parent] = node
        low, high = (rows.min(axis=0), rows.max(axis=0)) if len(rows) else (np.zeros(1), np.zeros(1))
        wide = np.flatnonzero(low < high)
        leaf = depth == deepest or len(rows) < 2 or not len(wide)
        column = _LEAF if leaf else int(random.choice(wide))
        cut = 0.0 if leaf else float(random.uniform(low[column], high[column]))
        length = depth + expected(len(rows)) if leaf else 0.0
        values = (column, cut, _LEAF, _LEAF, length)
        for name, value in zip(tree, values, strict=True):
            tree[name].append(value)
        if not leaf:
            under = rows[:, column] < cut
            waiting += [(rows[under], depth + 1, node, "left"), (rows[~under], depth + 1, node, "right")]
    return tree


def expected(rows: int) -> float:
    """The mean length of a path to one of so many rows in a tree of random cuts."""
    if rows < 2:
        return 0.0
    return 1.0 if rows == 2 else 2 * (math.log(rows - 1) + _EULER) - 2 * (rows - 1) / rows


def scores(inputs: Array, trees: list[Json], size: int) -> Array:
    """Of each row: towards 1 for those that are told apart soon, about 0.5 for all others."""
    import numpy as np

    total = np.zeros(len(inputs))
    for tree in trees:
        column, cut, left, right, length = (np.array(tree[name]) for name in tree)
        at, places = np.zeros(len(inputs), np.int64), np.arange(len(inputs))
        while len(places):
            places = places[column[at[places]] != _LEAF]
            here = at[places]
            under = inputs[places, column[here]] < cut[here]
            at[places] = np.where(under, left[here], right[here])
        total += length[at]
    return np.exp2(-total / len(trees) / max(expected(size), 1e-9))
