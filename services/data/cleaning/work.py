"""The child that cleans: writes the rows that stay, and those that are put aside as they were read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from services.data.arrow import arrow_schema, fit
from services.data.cleaning import proposing
from services.data.cleaning.chain import Chain, Source
from services.data.cleaning.operators import ROW
from services.data.cleaning.steps import from_json
from services.data.datasets import parquet, statistics
from services.data.datasets.domain import QUARANTINE
from services.data.datasets.rows import MOST_BYTES, size_of, to_rows
from services.data.schema import Column, ColumnType
from services.kit.child import Child, Json
from services.kit.errors import FailedPrecondition, Internal

_SHOWN = 20  # rows of a preview that are changed, and as many that are taken out
_STATE = 4 * 2**20  # bytes of what a version may learn


def main(request: Json, child: Child) -> Json:
    """Runs `steps` on `files`: into `folder`, or, with `preview` rows, to be shown; or proposes some."""
    if "propose" in request:
        return proposing.main(request, child)
    columns = tuple(Column(name, ColumnType(kind), bool(null)) for name, kind, null in request["columns"])
    files = [(str(path), int(rows)) for path, rows in request["files"]]
    chain = Chain(
        Source(files, columns, request.get("preview")), columns, [from_json(one) for one in request["steps"]], child
    )
    if "preview" in request:
        return _previewed(chain, columns)
    return _written(chain, columns, request)


def _written(chain: Chain, columns: tuple[Column, ...], request: Json) -> Json:
    folder = Path(request["folder"])
    rows = chain.rows(request["learned"], folder)
    first = next(rows, None)  # from here on it is known which columns there are
    after = tuple(chain.columns.values())
    writer, found = parquet.Writer(folder, after), statistics.Statistics(after)
    for table in _with(first, rows):
        table = fit(table, after)
        writer.write(table)
        found.add(table)
    files, counts = writer.close(), chain.counts()
    if sum(file.rows for file in files) != counts["rows_out"]:
        raise Internal("rows were lost on the way")
    if len(orjson.dumps(learned := chain.learned())) > _STATE:
        raise FailedPrecondition("the steps learn more than 4 MiB")
    return {
        "files": parquet.to_json(files),
        "quarantine": parquet.to_json(_put_aside(chain, columns, folder, request["data_set"])),
        "columns": _columns(after),
        "statistics": statistics.to_json(found.result()),
        **_taken_out(chain),
        "counts": counts,
        "report": chain.report(),
        "learned": learned,
    }


def _with(first: Any, rows: Iterator[Any]) -> Iterator[Any]:
    if first is not None:
        yield first
        yield from rows


def _columns(columns: tuple[Column, ...]) -> list[tuple[str, str, bool]]:
    return [(column.name, column.type.value, column.nullable) for column in columns]


def _taken_out(chain: Chain) -> Json:
    """Counts by reason: rows that were quarantined, and those that are duplicates."""
    quarantined = {reason: int((chain.fate == place).sum()) for place, reason in enumerate(chain.reasons, 1)}
    excluded = {one["step"]: one["duplicates"] for one in chain.report() if one["duplicates"]}
    return {"quarantined": quarantined, "excluded": {f"{name}: duplicate": n for name, n in excluded.items()}}


def _put_aside(chain: Chain, columns: tuple[Column, ...], folder: Path, data_set: str) -> Any:
    """The rows that are quarantined, as they were read."""
    import pyarrow as pa

    aside = parquet.quarantine_writer(folder)
    for table in chain.source.tables() if chain.reasons else ():
        places = chain.fate[table.column(ROW).to_numpy()]
        broken = table.filter(pa.array(places > 0))
        reasons = [chain.reasons[place - 1] for place in places[places > 0]]
        records = [orjson.dumps(row).decode() for row in to_rows(broken, columns)]
        origins = [f"{data_set}:{number + 1}" for number in broken.column(ROW).to_pylist()]
        aside.write(pa.table({"record": records, "reason": reasons, "origin": origins}, arrow_schema(QUARANTINE)))
    return aside.close()


def _previewed(chain: Chain, columns: tuple[Column, ...]) -> Json:
    after = list(chain.rows(None, None))
    made = tuple(chain.columns.values())
    results = dict[int, Json]()
    for table in after:
        results |= zip(table.column(ROW).to_pylist(), to_rows(table, made), strict=True)
    return {
        "counts": chain.counts(),
        "report": chain.report(),
        "learned": chain.learned(),
        "columns": _columns(made),
        "rows": _shown(chain, columns, results),
    }


def _shown(chain: Chain, columns: tuple[Column, ...], results: dict[int, Json]) -> list[Json]:
    """The first rows that change, and the first that are taken out, as many as an answer holds."""
    shown, left, size = list[Json](), [_SHOWN, _SHOWN], 0
    for table in chain.source.tables():
        for number, before in zip(table.column(ROW).to_pylist(), to_rows(table, columns), strict=True):
            after, out = results.get(number), number not in results
            # A new column has a row's mark: one that is not marked is as it was.
            same = after is not None and all(value == before.get(name, False) for name, value in after.items())
            if left[out] and not same:
                size += size_of(before) + size_of(after or {})
                if size > MOST_BYTES // 2:
                    return shown
                left[out] -= 1
                reason = _reason(chain, number) if out else ""
                shown.append({"row": number + 1, "before": before, "after": after, "reason": reason})
    return shown


def _reason(chain: Chain, number: int) -> str:
    place = int(chain.fate[number])
    return chain.reasons[place - 1] if place > 0 else "duplicate"
