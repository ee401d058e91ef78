"""Columns: their names, and their types on the wire and in Arrow."""

import pyarrow as pa
import pytest

from aimass.v1 import schema_pb2 as pb
from services.data import wire
from services.data.arrow import arrow_schema, column_type, columns_of, fit
from services.data.schema import Column, ColumnType, check_columns, quoted
from services.kit.errors import FailedPrecondition, InvalidValue

ALL = tuple(Column(kind.value, kind, kind is ColumnType.BOOL) for kind in ColumnType)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([""], "the column name '' must have 1 to 128 characters"),
        (["x" * 129], "must have 1 to 128 characters"),
        (["__t"], "the column name __t must not begin with two underscores"),
        (["a", "A"], "the column A is there twice"),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(names: list[str], text: str) -> None:
    with pytest.raises(InvalidValue, match=text):
        check_columns(Column(name, ColumnType.STRING) for name in names)


def test_names_may_be_anything_else() -> None:
    check_columns(Column(name, ColumnType.STRING) for name in ("a", "_b", "c d", 'e"f', "ü", "select"))


def test_names_are_quoted() -> None:
    assert quoted('a"b') == '"a""b"'


def test_columns_cross_the_wire_as_they_are() -> None:
    sent = wire.schema_to_wire(ALL).columns

    assert tuple(Column(one.name, wire.column_type_from_wire(one.type), one.nullable) for one in sent) == ALL


def test_a_column_without_a_type_is_refused() -> None:
    for kind in (pb.COLUMN_TYPE_UNSPECIFIED, 99):
        with pytest.raises(InvalidValue, match="the column type must be set"):
            wire.column_type_from_wire(kind)  # type: ignore[arg-type]


def test_every_type_is_stored_as_itself() -> None:
    schema = arrow_schema(ALL)

    assert [column.type for column in columns_of(schema)] == [column.type for column in ALL]
    assert [field.nullable for field in schema] == [column.nullable for column in ALL]


@pytest.mark.parametrize(
    ("arrow", "kind"),
    [
        (pa.int8(), ColumnType.INT64),
        (pa.uint64(), ColumnType.INT64),
        (pa.float32(), ColumnType.DOUBLE),
        (pa.decimal128(10, 2), ColumnType.DOUBLE),
        (pa.large_string(), ColumnType.STRING),
        (pa.string_view(), ColumnType.STRING),
        (pa.timestamp("ns"), ColumnType.TIMESTAMP),
        (pa.date64(), ColumnType.DATE),
        (pa.null(), ColumnType.STRING),
        (pa.binary(), None),
        (pa.struct([]), None),
    ],
)
def test_an_arrow_type_finds_the_column_that_holds_its_values(arrow: pa.DataType, kind: ColumnType | None) -> None:
    assert column_type(arrow) is kind


def test_a_table_is_made_to_fit() -> None:
    columns = (Column("a", ColumnType.DOUBLE), Column("b", ColumnType.STRING))
    table = fit(pa.table({"c": [1], "a": pa.array([1], pa.int8())}), columns)

    assert table.to_pylist() == [{"a": 1.0, "b": None}]
    with pytest.raises(FailedPrecondition, match="the column a does not fit double"):
        fit(pa.table({"a": ["x"]}), columns)
