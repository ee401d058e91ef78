"""The child that looks at sources which the service does not open itself: what it reads is not trusted with memory."""

from collections.abc import Iterable
from typing import Any

import orjson

from services.data.reading import connectors
from services.data.reading.connector import Connector
from services.data.reading.connector_postgres import PostgresConnector
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, FilesSource, compiled_from_json, source_from_json, to_json
from services.data.reading.samples import Sample, Tried
from services.data.reading.sqlite import Table
from services.data.schema import Column, ColumnType
from services.data.structs import to_plain
from services.kit.child import Child, Json

_BYTES = 16 * 2**20  # of a sample


def main(request: Json, child: Child) -> Json:
    """`{source, place, ask}` with `records` for a preview, `cursor` for a lag, and `compiled` for tries."""
    source, place = connectors.of_json(request["source"]), Place.from_json(request["place"])
    match request["ask"]:
        case "preview":
            return _sample_to_json(source.preview(place, request["records"]))
        case "tries":
            compiled, most = compiled_from_json(request["compiled"]), range(request["records"])
            tried = zip(source.tries(place, compiled, len(most)), most, strict=False)
            return {"tried": _bounded(_tried_to_json(one) for one, _ in tried)}
        case "lag":
            parts = source.lag(place, request["cursor"])
            return {"parts": None if parts is None else [list(part) for part in parts]}
        case "describe":
            assert isinstance(source, PostgresConnector)
            table = source.look(place)
            return {"columns": table.columns, "key": table.key}
        case "prepare":
            assert isinstance(source, PostgresConnector)
            source.prepare(place, compiled_from_json(request["compiled"]))
            return {}
        case _:
            source.look(place)
            return {}


def _bounded(found: Iterable[Json]) -> list[Json]:
    """As many as have 16 MiB, and one at least: the service holds them in memory."""
    kept, size = list[Json](), 0
    for one in found:
        size += len(orjson.dumps(one))
        if kept and size > _BYTES:
            break
        kept.append(one)
    return kept


def _sample_to_json(sample: Sample) -> Json:
    return {
        "records": _bounded(to_plain(record) for record in sample.records),
        "columns": [[column.name, column.type, column.nullable] for column in sample.columns],
        "parts": sample.parts,
        "suggested": to_json(sample.suggested) if sample.suggested else None,
    }


def sample_from_json(stored: Json) -> Sample:
    """What the child read."""
    columns = tuple(Column(name, ColumnType(kind), nullable) for name, kind, nullable in stored["columns"])
    seems = source_from_json(stored["suggested"]) if stored["suggested"] else None
    assert seems is None or isinstance(seems, FilesSource)
    return Sample(tuple(stored["records"]), columns, tuple(stored["parts"]), seems)


def table_from_json(stored: Json) -> Table:
    """What the child was told of a table."""
    return Table(tuple((name, kind and ColumnType(kind)) for name, kind in stored["columns"]), stored["key"])


def _tried_to_json(tried: Tried) -> Json:
    record: Any = tried.record
    if isinstance(record, list | tuple):
        record = list(to_plain(dict(enumerate(record))).values())  # type: ignore[arg-type]
    elif isinstance(record, dict):
        record = to_plain(record)
    return {"record": record, "fields": tried.fields, "text": tried.text, "reason": tried.reason}


def tried_from_json(source: Connector, compiled: Compiled, stored: Json) -> Tried:
    """What the child read, with what extracts it."""
    fields = stored["fields"]
    return Tried(stored["record"], source.ready(compiled, fields), fields, stored["text"], stored["reason"])
