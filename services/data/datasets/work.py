"""The child that answers a query."""

from typing import Any

from services.data.arrow import fit
from services.data.datasets.rows import MOST_BYTES, size_of, to_rows
from services.data.engine import Engine, Result
from services.kit.child import Child, Json
from services.kit.errors import Code, Failure


def main(request: Json, child: Child) -> Json:
    """`{sql, tables, start, max_rows}` to `{columns, rows, truncated}`.

    Raises query_invalid; limit_exceeded where the first row is too large for any answer.
    """
    return answered(Engine(request["tables"]).run(request["sql"]), request)


def answered(result: Result, request: Json) -> Json:
    """The page of a result that is asked for. Raises as `main` does."""
    most, size, rows, start = int(request["max_rows"]), 0, list[dict[str, Any]](), int(request["start"])
    columns = result.columns()
    for batch in result.batches(1):
        passed = min(start, batch.num_rows)
        batch, start = batch.slice(passed), start - passed
        for row in to_rows(fit(batch.slice(0, most + 1 - len(rows)), columns), columns):
            size += size_of(row)
            if len(rows) == most or size > MOST_BYTES:
                if not rows:
                    number = int(request["start"]) + 1
                    text = f"row {number} of the answer is larger than {MOST_BYTES // 2**20} MiB: select less of it"
                    raise Failure(Code.LIMIT_EXCEEDED, text)
                return _answer(columns, rows, True)
            rows.append(row)
    return _answer(columns, rows, False)


def _answer(columns: Any, rows: list[dict[str, Any]], truncated: bool) -> Json:
    return {
        "columns": [(column.name, column.type.value) for column in columns],
        "rows": rows,
        "truncated": truncated,
    }
