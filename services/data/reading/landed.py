"""Raw records as they land: one row of text for each, from which the record comes back as it was read. Pure."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from services.data.reading.formats import Records
from services.data.reading.kinds import Definition, source_from_json, to_json
from services.data.schema import Column, ColumnType

# Of the data set that records land in. `reason` is set for what is no record.
COLUMNS = (
    Column("number", ColumnType.INT64, False),
    Column("record", ColumnType.STRING, False),
    Column("digest", ColumnType.STRING, False),
    Column("source", ColumnType.STRING, False),
    Column("origin", ColumnType.STRING, False),
    Column("time", ColumnType.TIMESTAMP, False),
    Column("kind", ColumnType.STRING, False),
    Column("reason", ColumnType.STRING),
)
# Hidden until somebody says otherwise: masks of the data sets that rules write would be worth nothing.
MASKED = ("record",)
PREFIX = "landed_"
# What a record of each kind is called in the column `kind`.
KINDS: Mapping[Records, str] = {
    Records.ROWS: "row",
    Records.FIELDS: "fields",
    Records.DOCUMENTS: "document",
    Records.LINES: "line",
}


@dataclass(frozen=True)
class LandedRecords:
    """Records that landed: those with numbers above `after`, up to `upto`, in these files below the place."""

    source: Definition
    files: tuple[str, ...]
    after: int
    upto: int
    # Of a table: names and declared types of its columns.
    shape: tuple[tuple[str, str], ...] = ()
    # Whether a reader whose time is up may end before the last of them.
    partly: bool = False

    def to_json(self) -> dict[str, Any]:
        """For a child process."""
        said = {name: getattr(self, name) for name in ("files", "after", "upto", "shape", "partly")}
        return {"kind": "landed", "source": to_json(self.source), **said}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "LandedRecords":
        """What `to_json` wrote."""
        shape = tuple((name, kind) for name, kind in stored["shape"])
        source = source_from_json(stored["source"])
        return cls(source, tuple(stored["files"]), stored["after"], stored["upto"], shape, stored["partly"])


def data_set_of(source: str) -> str:
    """The data set that the records of a source land in."""
    return f"{PREFIX}{source}"


def packed(record: Any, fields: Sequence[str]) -> str:
    """A record as text: a line as it is, anything else as JSON."""
    if isinstance(record, str):
        return record
    if isinstance(record, dict):
        return _json(record)
    return _json({name: _told(value) for name, value in zip(fields, record, strict=True)})


def unpacked(text: str, kind: str) -> tuple[Any, tuple[str, ...]]:
    """The record and its fields, as `packed` was given them."""
    if kind == KINDS[Records.LINES]:
        return text, ()
    found = orjson.loads(text)
    if kind == KINDS[Records.DOCUMENTS]:
        return found, ()
    values = [_value(value) if isinstance(value, dict) else value for value in found.values()]
    return values, tuple(found)


def digest_of(text: str) -> str:
    """Of a record's text."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _json(value: dict[str, Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, orjson.JSONEncodeError):  # a number that has more than 64 bits
        return json.dumps(value, ensure_ascii=False, default=str)


def _told(value: Any) -> Any:
    """A value of a row as JSON has it."""
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$number": repr(value)}
    return value


def _value(told: Mapping[str, Any]) -> Any:
    if "$bytes" in told:
        return bytes.fromhex(told["$bytes"])
    return float(told["$number"])
