"""The child that lands: reads what is new in a source, and writes each record as it is."""

import gc
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from services.data.extractions.sinks import Table, Teller
from services.data.reading import landed, select
from services.data.reading.connector import Connector
from services.data.reading.connectors import connector
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, Definition, RuleColumn, SqlRule, SqlSource, source_from_json
from services.data.reading.landed import COLUMNS, KINDS
from services.data.schema import ColumnType, quoted
from services.kit.child import Child, Json

_PENDING = 32 * 2**20  # bytes that wait to be written: records may have a megabyte each


def main(request: Json, child: Child) -> Json:
    """`{source, name, place, cursor, seconds, after, time, folder}` to files, statistics, and the next cursor."""
    gc.disable()  # as extractions do
    definition, place = source_from_json(request["source"]), Place.from_json(request["place"])
    reader = connector(definition)
    sink = LandingSink(request, KINDS[definition.records], child)
    compiled, shape = _whole(definition, reader, place)
    end = reader.read(place, compiled, request["cursor"], sink, request["seconds"])
    return {**sink.close(), **end._asdict(), "shape": shape}


def _whole(definition: Definition, reader: Connector, place: Place) -> tuple[Compiled, list[list[str]]]:
    """What reads whole records; of a table with the columns that it has now, and their types."""
    if not isinstance(definition, SqlSource):
        return Compiled(()), []
    table: Any = reader.look(place)
    columns = tuple(RuleColumn(name, name, ColumnType.STRING) for name, _ in table.columns)
    rule = SqlRule(f"SELECT * FROM {quoted(definition.relation)}", columns)
    return select.compile_select(rule, definition, table), [list(pair) for pair in table.declared]


class LandingSink:
    """Takes records and keeps each as a row. What every connector reads passes here."""

    copies = None

    def __init__(self, request: Json, kind: str, child: Child) -> None:
        self._table, self._teller, self._kind = Table(Path(request["folder"]), COLUMNS), Teller(child), kind
        self._source, self._time = request["name"], datetime.fromisoformat(request["time"])
        self.number: int = request["after"]
        self._pending = 0

    def take(self, ready: Extractor, records: Sequence[Any], origins: Sequence[str], fields: Sequence[str]) -> None:
        """Keeps records of one part."""
        self._put([landed.packed(record, fields) for record in records], origins, [None] * len(records))

    def take_broken(self, broken: Sequence[tuple[int, str, str]], part: str) -> None:
        """Keeps what is no record, and why."""
        origins = [f"{part}:{number}" for number, _, _ in broken]
        self._put([text for _, text, _ in broken], origins, [reason for _, _, reason in broken])

    def take_refused(self, text: str, reason: str, origin: str) -> None:
        """The same for one."""
        self._put([text], [origin], [reason])

    def tell(self, fraction: float) -> None:
        """Says how far the work is, not too often."""
        self._teller.tell(self.number, fraction)

    def wait(self, reason: str) -> None:
        """Says that the source is away."""
        self._teller.wait(self.number, reason)

    def _put(self, texts: Sequence[str], origins: Sequence[str], reasons: Sequence[str | None]) -> None:
        if not texts:
            return
        import pyarrow as pa

        from services.data.arrow import arrow_schema

        count, first = len(texts), self.number + 1
        self.number += count
        columns = [
            range(first, first + count),
            texts,
            [landed.digest_of(text) for text in texts],
            [self._source] * count,
            origins,
            [self._time] * count,
            [self._kind] * count,
            reasons,
        ]
        schema = arrow_schema(COLUMNS)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        table = pa.Table.from_arrays(arrays, schema=schema)
        self._table.write(table)
        self._pending += table.nbytes
        if self._pending > _PENDING:
            self._table.spill()
            self._pending = 0

    def close(self) -> Json:
        """What was kept."""
        return {**self._table.close(), "last": self.number}
