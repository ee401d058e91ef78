"""The child that writes rows into a table of a database."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from services.data.exports import reading
from services.data.exports.domain import check_columns_of
from services.data.reading.folders import Place
from services.data.reading.kinds import SqlSource, source_from_json
from services.data.sources import writing
from services.data.sources.writing import Target
from services.kit.child import Child, Json
from services.kit.errors import Code, Failure

_TELL = 1.0  # seconds between two words on progress


def main(request: Json, child: Child) -> Json:
    """`{rows, source, place, table, mode, key, operation, seconds, max_bytes}` to `{rows}`.

    With nothing but `{place, seconds}` it takes back what a killed child has left. Raises as `writing.write`.
    """
    if "rows" not in request:
        writing.take_back(Place.from_json(request["place"]), float(request["seconds"]))
        return {}
    columns, tables = reading.opened(request["rows"])
    key = tuple(request["key"])
    check_columns_of(columns, key)
    target = Target(request["table"], request["mode"], key, columns, request["operation"])
    source = source_from_json(request["source"])
    assert isinstance(source, SqlSource)
    rows = writing.write(
        source,
        Place.from_json(request["place"]),
        target,
        _bounded(tables, int(request["max_bytes"])),
        _telling(child),
        float(request["seconds"]),
    )
    return {"rows": rows}


def _telling(child: Child) -> Callable[[int], None]:
    """Says how many rows have been sent, not too often: each word is written down."""
    told = -_TELL

    def tell(rows: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL:
            told = time.monotonic()
            child.progress({"rows": rows})

    return tell


def _bounded(tables: Iterator[Any], most: int) -> Iterator[Any]:
    left = most
    for table in tables:
        left -= table.nbytes
        if left < 0:
            raise Failure(Code.LIMIT_EXCEEDED, f"the result is larger than {most // 2**20} MiB: select less of it")
        yield table
