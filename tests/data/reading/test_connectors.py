"""Each kind of source: what the contract has, what reads it, and what its cursor belongs to."""

from dataclasses import replace

import pytest
from google.protobuf.descriptor import Descriptor

from aimass.v1 import rules_pb2, sources_pb2
from services.data.reading.connectors import connector
from services.data.reading.kinds import RULES, SOURCES, FileFormat, FilesSource, SqlSource

TABLE = SqlSource("sqlite:///a.db", "t", "id")


@pytest.mark.parametrize(
    "message",
    [
        sources_pb2.Source,
        sources_pb2.CreateSourceRequest,
        sources_pb2.UpdateSourceRequest,
        sources_pb2.PreviewSourceRequest,
        rules_pb2.RuleDefinition,
    ],
)
def test_every_kind_of_the_contract_is_known_and_no_other(message: type) -> None:
    descriptor: Descriptor = message.DESCRIPTOR  # type: ignore[attr-defined]
    known = RULES if message is rules_pb2.RuleDefinition else SOURCES

    assert {field.name for field in descriptor.oneofs_by_name["kind"].fields} == set(known)


def identity(source: SqlSource | FilesSource) -> str:
    return connector(source).identity


@pytest.mark.parametrize("field", ["url", "table", "cursor"])
def test_a_cursor_belongs_to_a_table_and_a_column(field: str) -> None:
    assert identity(TABLE) == identity(SqlSource("sqlite:///a.db", "t", "id"))
    assert identity(replace(TABLE, **{field: "other"})) != identity(TABLE)  # type: ignore[arg-type]


def test_parts_of_an_identity_do_not_run_into_each_other() -> None:
    assert identity(SqlSource("u", "ab", "c")) != identity(SqlSource("u", "a", "bc"))
    assert identity(FilesSource(FileFormat.CSV, "a")) == identity(FilesSource(FileFormat.TEXT, "b")) == "files"
