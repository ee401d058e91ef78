"""The child that searches: reads a sample of the rows and looks for steps until its budget is used up."""

import time
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from services.data.feature_search.domain import DEFAULT_ROWS, Search
from services.data.features import columns
from services.data.schema import Column, ColumnType
from services.kit.child import Child, Json
from services.kit.errors import FailedPrecondition

_SEED = 1
_KEPT = 0.9  # of the budget, that the search may use: the rest is for its end


def main(request: Json, child: Child) -> Json:
    """A Search with `files` and `cpu_seconds` to Found. Raises failed_precondition for rows that say too little."""
    from services.data.feature_search import search
    from services.data.feature_search.candidates import sampled

    asked = TypeAdapter(Search).validate_python(request)
    wanted, files = asked.wanted, request["files"]
    child.progress({"progress": 0.0, "message": f"reading {wanted.data_set}"})
    kept = [columns.mask(path, wanted.train) for path in files]
    labels = columns.joined(columns.numbers, files, kept, wanted.label)
    chosen = _chosen(labels, wanted.rows or DEFAULT_ROWS, wanted.label)
    kept = only(kept, chosen)
    found = [sampled(one.name, one.type, values(files, kept, one)) for one in asked.columns]
    seconds = _KEPT * float(request["cpu_seconds"])

    def tell(progress: float, message: str) -> None:
        child.progress({"progress": progress, "message": message})

    how = search.Settings(rate=wanted.rate, table_rows=len(labels), time=wanted.time, allow=wanted.allow)
    made = search.Searcher(found, labels[chosen], how, lambda: time.process_time() / seconds, tell).run()
    answer: Json = TypeAdapter(type(made)).dump_python(made, mode="json")
    return answer


def _chosen(labels: Any, rows: int, label: str) -> Any:
    """The places of the rows of the sample, in order. Raises failed_precondition for labels that are not 0 and 1."""
    import numpy as np

    known = np.flatnonzero(np.isfinite(labels))
    if not np.isin(labels[known], (0, 1)).all():
        raise FailedPrecondition(f"{label} must hold 0 and 1")
    if len(known) <= rows:
        return known
    return np.sort(np.random.default_rng(_SEED).choice(known, rows, replace=False))


def only(kept: Sequence[Any], chosen: Any) -> list[Any]:
    """Of the rows that are kept of each file those whose places among all of them are chosen."""
    import numpy as np

    if not kept:
        return []
    found = np.zeros(sum(map(len, kept)), bool)
    found[np.flatnonzero(np.concatenate(kept))[chosen]] = True
    return list(np.split(found, np.cumsum([len(rows) for rows in kept])[:-1]))


def values(files: Sequence[str], kept: Sequence[Any], column: Column) -> Any:
    """A column of the rows that are kept; what else a file has is held while it is read."""
    text = column.type is ColumnType.STRING
    return columns.joined(columns.texts if text else columns.numbers, files, kept, column.name)
