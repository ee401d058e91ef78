"""What a source and a rule say, as values: where raw data is, and how it becomes rows. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from services.data.schema import ColumnType


class FileFormat(StrEnum):
    """How a file divides into records."""

    CSV = "csv"
    JSON_LINES = "json_lines"
    TEXT = "text"


@dataclass(frozen=True)
class SqlSource:
    """A table of a SQL database, read by a unique increasing column."""

    url: str
    table: str
    cursor: str


@dataclass(frozen=True)
class FilesSource:
    """Files that a pattern names, or one upload."""

    format: FileFormat
    pattern: str = ""
    upload_digest: str = ""
    delimiter: str = ","
    null_values: tuple[str, ...] = ()


Definition = SqlSource | FilesSource


@dataclass(frozen=True)
class RuleColumn:
    """A column that a rule fills. `source`: the column, path or group that it comes from."""

    name: str
    source: str
    type: ColumnType
    required: bool = False


@dataclass(frozen=True)
class SqlRule:
    """A SELECT on the source's table; `columns` say more of some of its columns."""

    sql: str
    columns: tuple[RuleColumn, ...] = ()


@dataclass(frozen=True)
class FileRule:
    """Columns of a delimited file."""

    columns: tuple[RuleColumn, ...]


@dataclass(frozen=True)
class JsonRule:
    """Values in JSON records, by path."""

    columns: tuple[RuleColumn, ...]


@dataclass(frozen=True)
class RegexRule:
    """Named groups of a pattern that matches a whole line."""

    pattern: str
    columns: tuple[RuleColumn, ...]


RuleDefinition = SqlRule | FileRule | JsonRule | RegexRule


@dataclass(frozen=True)
class Compiled:
    """What a rule version comes to once it was checked: every column with its type, and for SQL the text that runs.

    `cursor` is the place of the cursor column among the columns of the statement.
    """

    columns: tuple[RuleColumn, ...]
    statement: str = ""
    cursor: int = 0
    pattern: str = ""
    paths: tuple[tuple[str | int, ...], ...] = field(default=())


_KINDS: dict[str, Any] = {
    "sql_source": SqlSource,
    "files_source": FilesSource,
    "sql": SqlRule,
    "file": FileRule,
    "json": JsonRule,
    "regex": RegexRule,
}


def to_json(value: Definition | RuleDefinition) -> dict[str, Any]:
    """A definition for a database or a child process."""
    kind = next(name for name, known in _KINDS.items() if type(value) is known)
    return {"kind": kind, **asdict(value)}


def source_from_json(stored: Mapping[str, Any]) -> Definition:
    """What `to_json` wrote of a source."""
    values = {key: value for key, value in stored.items() if key != "kind"}
    if stored["kind"] == "sql_source":
        return SqlSource(**values)
    return FilesSource(
        **{**values, "format": FileFormat(values["format"]), "null_values": tuple(values["null_values"])}
    )


def rule_from_json(stored: Mapping[str, Any]) -> RuleDefinition:
    """What `to_json` wrote of a rule."""
    values = {key: value for key, value in stored.items() if key not in ("kind", "columns")}
    definition: RuleDefinition = _KINDS[stored["kind"]](**values, columns=_columns(stored["columns"]))
    return definition


def compiled_to_json(compiled: Compiled) -> dict[str, Any]:
    """A checked rule for a database or a child process."""
    return asdict(compiled)


def compiled_from_json(stored: Mapping[str, Any]) -> Compiled:
    """What `compiled_to_json` wrote."""
    paths = tuple(tuple(path) for path in stored["paths"])
    return Compiled(_columns(stored["columns"]), stored["statement"], stored["cursor"], stored["pattern"], paths)


def _columns(stored: Any) -> tuple[RuleColumn, ...]:
    return tuple(
        RuleColumn(column["name"], column["source"], ColumnType(column["type"]), column["required"])
        for column in stored
    )
