"""What a source and a rule say, as values: where raw data is, and how it becomes rows. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from services.data.reading.crawls import CrawlSource
from services.data.reading.downloads import Download, columns_of
from services.data.reading.formats import Records as Records
from services.data.reading.kinds_files import FileFormat as FileFormat
from services.data.reading.kinds_files import FilesSource as FilesSource
from services.data.reading.topics import KafkaSource
from services.data.schema import Column, ColumnType


@dataclass(frozen=True)
class SqlSource:
    """A table of a SQL database, read by an increasing column."""

    records: ClassVar[Records] = Records.ROWS
    url: str
    table: str
    cursor: str
    # As a caller says it.
    password: str = field(default="", repr=False, compare=False)
    lag_seconds: int = 0

    @property
    def relation(self) -> str:
        """The table as a rule calls it: without the schema."""
        return self.table.rpartition(".")[2] if self.remote else self.table

    @property
    def remote(self) -> bool:
        """Whether it is on a server."""
        return self.url.startswith(("postgresql://", "postgresql+psycopg://"))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "SqlSource":
        """From plain values by the names of the fields, as they are stored and sent."""
        return cls(**values)


@dataclass(frozen=True)
class PushedSource:
    """Records that are handed over. `record_id` is the field with the id, `columns` are checked when they arrive."""

    records: ClassVar[Records] = Records.DOCUMENTS
    record_id: str
    columns: tuple[Column, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "PushedSource":
        """From plain values by the names of the fields, as they are stored and sent."""
        columns = (Column(one["name"], ColumnType(one["type"]), one["nullable"]) for one in values["columns"])
        return cls(values["record_id"], tuple(columns))


# Every kind of source, by its name in the contract. `connectors` says how each is read.
Definition = SqlSource | FilesSource | PushedSource | KafkaSource | CrawlSource
SOURCES: Mapping[str, type[Definition]] = {
    "sql": SqlSource,
    "files": FilesSource,
    "pushed": PushedSource,
    "kafka": KafkaSource,
    "crawl": CrawlSource,
}
# Fields that are stored encrypted, beside the definition, which never has them.
SECRETS = ("password", "secret", "sasl_password", "client_key")


@dataclass(frozen=True)
class RuleColumn:
    """A column that a rule fills. `source`: the column, path or group that it comes from.

    `variant`: an object or an array in the place of its value is no value: other columns have what is in it.
    """

    name: str
    source: str
    type: ColumnType
    required: bool = False
    variant: bool = False


@dataclass(frozen=True)
class SqlRule:
    """A SELECT on the source's table; `columns` say more of some of its columns."""

    needs: ClassVar[Records] = Records.ROWS
    sql: str
    columns: tuple[RuleColumn, ...] = ()
    downloads: tuple[Download, ...] = ()


@dataclass(frozen=True)
class InnerRule:
    """A rule for a text that another has found. `source`: the group, path or column that it comes from."""

    source: str
    rule: "JsonRule | RegexRule"


@dataclass(frozen=True)
class FileRule:
    """Columns of delimited or Parquet files."""

    needs: ClassVar[Records] = Records.FIELDS
    columns: tuple[RuleColumn, ...]
    inner: tuple[InnerRule, ...] = ()
    downloads: tuple[Download, ...] = ()


@dataclass(frozen=True)
class JsonRule:
    """Values in JSON records, by path. `keep_empty`: an array that is empty or missing gives a row all the same.

    `documents`: the column by whose digests the bytes of documents are kept.
    """

    needs: ClassVar[Records] = Records.DOCUMENTS
    columns: tuple[RuleColumn, ...]
    inner: tuple[InnerRule, ...] = ()
    keep_empty: bool = False
    downloads: tuple[Download, ...] = ()
    documents: str = ""


@dataclass(frozen=True)
class RegexRule:
    """Named groups of the first pattern that matches a whole line: `pattern`, then `more_patterns` in their order."""

    needs: ClassVar[Records] = Records.LINES
    pattern: str
    columns: tuple[RuleColumn, ...]
    inner: tuple[InnerRule, ...] = ()
    more_patterns: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()


# Every kind of rule, by its name in the contract. `rules.compiling` checks each and brings it into the form that runs.
RuleDefinition = SqlRule | FileRule | JsonRule | RegexRule
RULES: Mapping[str, type[RuleDefinition]] = {"sql": SqlRule, "file": FileRule, "json": JsonRule, "regex": RegexRule}


@dataclass(frozen=True)
class Compiled:
    """What a rule version comes to once it was checked: every column with its type, and for SQL the text that runs.

    `cursor` is the place of the cursor column among the columns of the statement. A rule set has no columns of its own
    but `branches`: what its rules come to, in their order. The columns of `inner` rules are the last ones.
    """

    columns: tuple[RuleColumn, ...]
    statement: str = ""
    cursor: int = 0
    pattern: str = ""
    paths: tuple[tuple[str | int, ...], ...] = ()
    branches: "tuple[Compiled, ...]" = ()
    inner: "tuple[CompiledInner, ...]" = ()
    more_patterns: tuple[str, ...] = ()
    keep_empty: bool = False
    downloads: tuple[Download, ...] = ()
    documents: str = ""

    @property
    def keeps_files(self) -> bool:
        """Whether files belong to its rows."""
        return bool(self.downloads or self.documents)

    @property
    def schema(self) -> tuple[Column, ...]:
        """The columns of the rows that it makes, and those that its downloads add."""
        own = tuple(Column(column.name, column.type, not column.required) for column in self.columns)
        return (*own, *columns_of(self.downloads))


@dataclass(frozen=True)
class CompiledInner:
    """What an inner rule comes to, and where its text is; the path only in JSON."""

    source: str
    path: tuple[str | int, ...]
    compiled: Compiled


_NAMES = {kind: name for kinds in (SOURCES, RULES) for name, kind in kinds.items()}


def name_of(value: Definition | RuleDefinition) -> str:
    """What its kind is called in the contract."""
    return _NAMES[type(value)]


def to_json(value: Definition | RuleDefinition) -> dict[str, Any]:
    """A definition for a database or a child process."""
    suffix = "_source" if isinstance(value, Definition) else ""
    said = {name: one for name, one in asdict(value).items() if name not in SECRETS}
    if isinstance(value, FileRule | JsonRule | RegexRule):
        said["inner"] = [{"source": one.source, "rule": to_json(one.rule)} for one in value.inner]
    return {"kind": f"{name_of(value)}{suffix}", **said}


def source_from_json(stored: Mapping[str, Any]) -> Definition:
    """What `to_json` wrote of a source."""
    values = {key: value for key, value in stored.items() if key != "kind"}
    return SOURCES[stored["kind"].removesuffix("_source")].of(values)


def rule_from_json(stored: Mapping[str, Any]) -> RuleDefinition:
    """What `to_json` wrote of a rule."""
    values = {key: value for key, value in stored.items() if key not in ("kind", "columns", "inner")}
    values["downloads"] = _downloads(values.get("downloads", ()))
    inner = tuple(InnerRule(one["source"], _inner_from_json(one["rule"])) for one in stored.get("inner", ()))
    if inner:
        values["inner"] = inner
    if "more_patterns" in values:
        values["more_patterns"] = tuple(values["more_patterns"])
    return RULES[stored["kind"]](**values, columns=_columns(stored["columns"]))


def _inner_from_json(stored: Mapping[str, Any]) -> JsonRule | RegexRule:
    rule = rule_from_json(stored)
    assert isinstance(rule, JsonRule | RegexRule), "no others are inside a rule"
    return rule


def compiled_to_json(compiled: Compiled) -> dict[str, Any]:
    """A checked rule for a database or a child process."""
    return asdict(compiled)


def compiled_from_json(stored: Mapping[str, Any]) -> Compiled:
    """What `compiled_to_json` wrote."""
    paths = tuple(tuple(path) for path in stored["paths"])
    branches = tuple(compiled_from_json(branch) for branch in stored.get("branches", ()))
    inner = tuple(
        CompiledInner(one["source"], tuple(one["path"]), compiled_from_json(one["compiled"]))
        for one in stored.get("inner", ())
    )
    columns, more = _columns(stored["columns"]), tuple(stored.get("more_patterns", ()))
    said = columns, stored["statement"], stored["cursor"], stored["pattern"], paths, branches, inner, more
    files = _downloads(stored.get("downloads", ())), stored.get("documents", "")
    return Compiled(*said, stored.get("keep_empty", False), *files)


def _columns(stored: Any) -> tuple[RuleColumn, ...]:
    return tuple(RuleColumn(**{**column, "type": ColumnType(column["type"])}) for column in stored)


def _downloads(stored: Any) -> tuple[Download, ...]:
    return tuple(map(Download.of, stored))
