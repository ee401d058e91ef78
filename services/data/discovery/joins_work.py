"""The child that finds joins: reads the first records of some sources and compares their columns."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from services.data.discovery import joins
from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kinds import source_from_json
from services.kit.child import Child, Json

_COLUMNS, _NAME = 500, 128  # of a source that are looked at, and characters of their names
_WHOLE = 4 * 2**20  # characters: a sample with more may have ended for its size


def main(request: Json, child: Child) -> Json:
    """`{sources: {name: {source, place}}, records}` to `{keys, joins}`. Raises invalid_value, limit_exceeded."""
    columns, whole, most = list[joins.Column](), set[str](), int(request["records"])
    for name, said in request["sources"].items():
        columns += _columns(name, said, most, whole)
    found = joins.joins(columns, frozenset(whole))
    return {"keys": [asdict(key) for _, key in joins.keys(columns)], "joins": [asdict(join) for join in found]}


def _columns(name: str, said: Mapping[str, Any], most: int, whole: set[str]) -> list[joins.Column]:
    sample = connector(source_from_json(said["source"])).preview(Place.from_json(said["place"]), most)
    if 0 < len(sample.records) < most and sum(map(_size, sample.records)) < _WHOLE:
        whole.add(name)
    return [
        joins.Column(name, column.name, [record.get(column.name) for record in sample.records])
        for column in sample.columns[:_COLUMNS]
        if 0 < len(column.name) <= _NAME
    ]


def _size(record: Mapping[str, Any]) -> int:
    return sum(len(value) for value in record.values() if isinstance(value, str | bytes))
